"""Puts the figures of the chaos tests together: docs/chaos.md, to standard output."""

import pathlib
import platform
import os
import subprocess
import sys

HEAD = """\
# When things fail

What `make chaos` found in its last run: each scenario plays visitors against real processes of the service and a real
Redis Cluster of three masters and three replicas, and a checker that sees only requests and answers judges the rules.
A run in which a rule was broken fails and is not written down here. Two replicas of the service; `cluster-node-timeout`
is 2 s and `cluster-require-full-coverage` is `no`: with Redis' default of `yes` a dead master takes the other shards
with it until its replica is promoted.

What was judged wherever a crowd came and a master was hurt, all visitors over their whole life, as far as requests
and answers can prove it (an answer may rest on a snapshot that is a tick old, or as old as the outage):

- no number was given twice, and nobody who waited lost their place;
- nobody was called before somebody in front of them;
- never did more hold a slot than `capacity`, nor were more called than `burst` + `rate` × t;
- passes, polls and streams were answered without an error; newcomers were told at worst to wait without a number.

"""


def version(program):
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()
    return next((word.removeprefix("v=") for word in said if word.startswith("v=")), "?")


def main():
    tables = sorted(pathlib.Path(sys.argv[1]).glob("*.md"))
    if not tables:
        sys.exit("chaos.py: no figures in " + sys.argv[1])
    machine = f"Machine: {os.cpu_count()} cores, {platform.system()} {platform.machine()}, Redis {version('redis-server')}."
    print(HEAD + machine + "\n\n" + "\n".join(table.read_text().strip() + "\n" for table in tables), end="")


main()
