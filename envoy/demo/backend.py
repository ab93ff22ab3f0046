"""The demo's backend: a shop that can take few visitors, and shows what it was told about each.

    backend.py PORT [ADDRESS]

Answers on 127.0.0.1, or at that address: /shop and below, /open and below, /healthz, / (what there is). JSON where it is
asked for, else HTML. /open/spa is web/example/, a single-page app that lets its visitor into /shop by the JavaScript client.
"""

import html
import itertools
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

SPA = Path(__file__).resolve().parents[2] / "web" / "example" / "index.html"
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>body{{font:1.1rem/1.6 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}}
dt{{font-weight:600}}dd{{margin:0 0 .5rem;overflow-wrap:anywhere}}</style>
<h1>{title}</h1><p>{text}</p><dl>{told}</dl>{leave}</html>
"""
# Leaving through the client API frees the place at once instead of after session_ttl.
LEAVE = """<p><button onclick="fetch('/anteroom/v1/rooms/shop/pass',{method:'DELETE'}).then(()=>location='/')">
Leave the shop</button></p>"""
PLACES = {
    "shop": ("You are in the shop", "Anteroom let you in."),
    "open": ("Open to all", "Nobody ever waits here."),
    "": ("Demo backend", 'Try <a href="/shop">/shop</a>, which has a waiting room, <a href="/open">/open</a>, '
         'and <a href="/open/spa">/open/spa</a>, a single-page app.'),
}
requests = itertools.count(1)  # next() on it is atomic: no lock is needed between threads


class Backend(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server_version = "backend"
    # A kept-alive connection of a client that has gone must not hold a thread for ever.
    timeout = 60

    def answer(self):
        # A body that nobody reads would be taken for the next request.
        length = int(self.headers.get("content-length") or 0)
        while length > 0 and (part := self.rfile.read(min(length, 65536))):
            length -= len(part)
        path = urlsplit(self.path).path
        if path == "/healthz":
            return self.send(200, "text/plain", "ok\n")
        if path == "/open/spa":
            return self.send(200, "text/html; charset=utf-8", SPA.read_text(encoding="utf-8"))
        place = path.strip("/").split("/")[0].lower()
        if place not in PLACES:
            return self.send(404, "text/plain", "There is nothing here.\n")
        number = next(requests)
        # A pass is a secret of its holder: it is shown neither here nor in the log.
        told = {
            name.lower(): "(present)" if name.lower() in ("x-anteroom-pass", "x-anteroom-ticket") else value
            for name, value in self.headers.items()
            if name.lower().startswith("x-anteroom-")
        }
        title, text = PLACES[place]
        if "json" in self.headers.get("accept", ""):
            facts = {"place": place or "index", "request": number, "anteroom": told}
            return self.send(200, "application/json", json.dumps(facts) + "\n")
        rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in told.items())
        leave = LEAVE if place == "shop" else ""
        return self.send(200, "text/html; charset=utf-8", PAGE.format(title=title, text=text, told=rows, leave=leave))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815 (http.server's names)

    def send(self, status, content_type, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        # A page from behind the waiting room must not be shown to the next visitor from a cache.
        self.send_header("cache-control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format, *args):  # noqa: A002 (http.server's name)
        sys.stderr.write(f"{self.log_date_time_string()} {format % args}\n")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or not sys.argv[1].isdigit():
        sys.exit("usage: backend.py PORT [ADDRESS]")
    address = (sys.argv[2] if len(sys.argv) == 3 else "127.0.0.1", int(sys.argv[1]))
    ThreadingHTTPServer.daemon_threads = True
    try:
        ThreadingHTTPServer(address, Backend).serve_forever()
    except KeyboardInterrupt:
        pass
    except OSError as error:
        sys.exit(f"backend: cannot listen on {address[0]}:{address[1]}: {error.strerror}")
