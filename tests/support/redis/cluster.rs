//! A Redis Cluster of our own: three masters with a replica each.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::proxy::Proxy;
use super::resp::Reply;
use super::server::Server;
use super::{SOON, ports, until_true};

const SLOTS: u16 = 16_384;
const SHARDS: usize = 3;
const NODES: usize = 6;
/// How long a node may take to say how it sees the cluster; a stopped one never does.
const GLANCE: Duration = Duration::from_millis(500);

/// Six nodes, the first three of which begin as masters; node `n + 3` begins as the replica of node `n`.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    /// A room's name for each shard.
    rooms: [String; SHARDS],
}

struct Node {
    server: Server,
    /// Between the service and the node, where the cluster was started with proxies.
    proxy: Option<Proxy>,
    id: String,
}

impl Node {
    /// Where clients are sent to.
    fn announced(&self) -> u16 {
        self.proxy.as_ref().map_or(self.server.port(), Proxy::port)
    }

    /// What is not as it should be, as this node sees it.
    fn unsound(&self) -> Option<String> {
        let at = |what: &str, seen: String| Some(format!("{} {what}:\n{seen}", self.server.port()));
        let info =
            self.server.ask(&["CLUSTER", "INFO"], GLANCE).map_or_else(|why| why, |info| info.to_string());
        if !info.contains("cluster_state:ok") {
            return at("does not serve", info);
        }
        let shards = self.view().unwrap_or_default();
        if shards.len() != SHARDS || shards.iter().any(|shard| shard.nodes != NODES / SHARDS) {
            return at(
                "sees",
                self.server.ask(&["CLUSTER", "NODES"], GLANCE).map_or_else(|why| why, |n| n.to_string()),
            );
        }
        let replication = self.server.info("replication");
        let synced = match replication.get("role").map(String::as_str) {
            Some("master") => replication.get("slave0").is_some_and(|slave| slave.contains("state=online")),
            _ => replication.get("master_link_status").is_some_and(|link| link == "up"),
        };
        if synced { None } else { at("is not in step", format!("{replication:?}")) }
    }

    /// The shards as a node sees them; `None` if it does not answer.
    fn view(&self) -> Option<Vec<Shard>> {
        if !self.server.runs() {
            return None;
        }
        let reply = self.server.ask(&["CLUSTER", "SLOTS"], GLANCE).ok()?;
        Some(reply.list().iter().filter_map(Shard::read).collect())
    }
}

impl Cluster {
    /// Starts a cluster, and waits until it is sound: every slot served, every master with a replica in step.
    pub(crate) async fn start() -> Self {
        Self::with(false).await
    }

    /// The same with a proxy before each node, through which clients come; the nodes among themselves go past it.
    pub(crate) async fn proxied() -> Self {
        Self::with(true).await
    }

    async fn with(proxied: bool) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            nodes.push(Self::node(proxied).await);
        }
        let rooms = std::array::from_fn(|shard| {
            let (from, to) = range(shard);
            let mut names = (0..).map(|count| format!("room{count}"));
            names.find(|name| (from..=to).contains(&slot_of(name))).expect("one of many")
        });
        let cluster = Self { nodes, rooms };
        cluster.join().await;
        cluster
    }

    async fn node(proxied: bool) -> Node {
        // With the default a dead master takes the other shards with it until its replica is promoted.
        let mut flags = ["--cluster-enabled yes", "--cluster-require-full-coverage no"].join(" ");
        flags += " --cluster-node-timeout 2000 --repl-diskless-sync-delay 0 --cluster-announce-ip 127.0.0.1";
        let announced = proxied.then(ports::free);
        if let Some(announced) = announced {
            flags.extend([" --cluster-announce-port ".to_owned(), announced.to_string()]);
        }
        let server = Server::start_with(&flags.split(' ').collect::<Vec<_>>()).await;
        let proxy = match announced {
            Some(announced) => Some(Proxy::start_at(announced, server.port()).await),
            None => None,
        };
        let id = server.command(&["CLUSTER", "MYID"]);
        Node { server, proxy, id }
    }

    /// What `redis-cli --cluster create` does, without asking which node should be what.
    async fn join(&self) {
        for (index, node) in self.nodes.iter().enumerate() {
            let epoch = (index + 1).to_string();
            node.server.command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
            if index < SHARDS {
                let (from, to) = range(index);
                let slots = [from.to_string(), to.to_string()];
                node.server.command(&["CLUSTER", "ADDSLOTSRANGE", &slots[0], &slots[1]]);
            }
            if index > 0 {
                let (port, bus) =
                    (node.announced().to_string(), (node.server.port() + ports::BUS).to_string());
                self.nodes[0].server.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
            }
        }
        let all_known = |node: &Node| {
            let seen = node.server.command(&["CLUSTER", "NODES"]);
            self.nodes.iter().all(|node| seen.contains(&node.id)) && !seen.contains("handshake")
        };
        until_true("all nodes know each other", SOON, || self.nodes.iter().all(all_known)).await;
        for (index, node) in self.nodes.iter().enumerate().skip(SHARDS) {
            node.server.command(&["CLUSTER", "REPLICATE", &self.nodes[index - SHARDS].id]);
        }
        self.until_sound().await;
    }

    /// Waits until every slot is served and every master has a replica in step, as every node sees it.
    pub(crate) async fn until_sound(&self) {
        let deadline = Instant::now() + SOON;
        while let Some(why) = self.nodes.iter().find_map(Node::unsound) {
            assert!(Instant::now() < deadline, "the cluster is not sound after {SOON:?}: {why}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What `--store` takes.
    pub(crate) fn url(&self) -> String {
        let nodes: Vec<_> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.announced())).collect();
        format!("redis-cluster://{}", nodes.join(","))
    }

    /// All nodes, those that are not running included.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &Server> {
        self.nodes.iter().map(|node| &node.server)
    }

    /// The master that has the room now, as most nodes see it.
    pub(crate) fn master_of(&self, room: &str) -> &Server {
        &self.master_node(room).server
    }

    /// The proxy before the room's master.
    pub(crate) fn proxy_of(&self, room: &str) -> &Proxy {
        self.master_node(room).proxy.as_ref().expect("the cluster was started with proxies")
    }

    /// The masters now, in the order of their slots.
    pub(crate) fn masters(&self) -> Vec<&Server> {
        self.rooms_on_each_shard().iter().map(|room| self.master_of(room)).collect()
    }

    /// A room's name for each shard.
    pub(crate) fn rooms_on_each_shard(&self) -> [String; SHARDS] {
        self.rooms.clone()
    }

    /// Waits until another node than `before` has the room and answers for it.
    pub(crate) async fn until_promoted(&self, room: &str, before: u16) {
        until_true("a replica was promoted", SOON, || {
            let Some(master) = self.elected(room).filter(|node| node.server.port() != before) else {
                return false;
            };
            let role = master.server.info("replication").get("role").cloned();
            role.as_deref() == Some("master")
        })
        .await;
    }

    /// Empties every master, and with them their replicas.
    pub(crate) fn flushall(&self) {
        for master in self.masters() {
            master.command(&["FLUSHALL", "SYNC"]);
        }
    }

    /// The keys of every master.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.masters().into_iter().flat_map(Server::keys).collect()
    }

    /// How often a script was called from outside, on all nodes.
    pub(crate) fn script_calls(&self) -> u64 {
        self.servers().map(Server::script_calls).sum()
    }

    /// How often each command was called, on all nodes.
    pub(crate) fn calls(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (name, calls) in self.servers().flat_map(Server::calls) {
            *all.entry(name).or_default() += calls;
        }
        all
    }

    fn master_node(&self, room: &str) -> &Node {
        self.elected(room).expect("no node of the cluster says who has the room")
    }

    /// Whom most of the nodes that answer take for the room's master: news takes a moment to reach everybody.
    fn elected(&self, room: &str) -> Option<&Node> {
        let mut votes = BTreeMap::<u16, usize>::new();
        for view in self.nodes.iter().filter_map(Node::view) {
            for shard in view.iter().filter(|shard| shard.has(room)) {
                *votes.entry(shard.master).or_default() += 1;
            }
        }
        let (port, _) = votes.into_iter().max_by_key(|(_, votes)| *votes)?;
        self.nodes.iter().find(|node| node.announced() == port)
    }
}

struct Shard {
    from: u16,
    to: u16,
    /// The port that clients are sent to.
    master: u16,
    nodes: usize,
}

impl Shard {
    fn read(range: &Reply) -> Option<Self> {
        let [from, to, nodes @ ..] = range.list() else { return None };
        let port = |int: i64| u16::try_from(int).ok();
        let master = nodes.first()?.list().get(1)?.int();
        Some(Self { from: port(from.int())?, to: port(to.int())?, master: port(master)?, nodes: nodes.len() })
    }

    fn has(&self, room: &str) -> bool {
        (self.from..=self.to).contains(&slot_of(room))
    }
}

/// The slots that a shard has, the last one included.
fn range(shard: usize) -> (u16, u16) {
    let each = SLOTS / 3 + 1;
    let shard = u16::try_from(shard).expect("one of three");
    (shard * each, ((shard + 1) * each).min(SLOTS) - 1)
}

/// The slot of a room: CRC16 (XMODEM) of its name, which is the hash tag of all its keys.
pub(crate) fn slot_of(room: &str) -> u16 {
    let crc = room.bytes().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            (crc << 1) ^ (if crc & 0x8000 == 0 { 0 } else { 0x1021 })
        })
    });
    crc % SLOTS
}
