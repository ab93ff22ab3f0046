//! Finds policies in Envoy's configuration, and merges them as Envoy does.
//!
//! Nothing here knows Envoy's schema as a whole. A map with `typed_per_filter_config` is a layer for everything
//! inside it: route configuration ⊃ virtual host ⊃ route ⊃ weighted cluster, and the most specific key wins. So
//! bootstrap, discovery files, Istio's `EnvoyFilter` and Envoy Gateway's `SecurityPolicy` are read by one walk.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use super::survey::{Place, Survey};
use crate::config::Report;
use crate::config::yaml::{Entry, Node, Path, Value};
use crate::room::gates::{self, ALL_KEYS, Stated};
use crate::room::name::RoomName;
use crate::room::policy::{Source, unknown_key};

/// Proto field names and their JSON twins: Envoy takes both.
const PER_FILTER: [&str; 2] = ["typed_per_filter_config", "typedPerFilterConfig"];
const CHECK_SETTINGS: [&str; 2] = ["check_settings", "checkSettings"];
const CONTEXT: [&str; 2] = ["context_extensions", "contextExtensions"];
const METADATA: [&str; 2] = ["filter_metadata", "filterMetadata"];
const WEIGHTED: [&str; 2] = ["weighted_clusters", "weightedClusters"];
/// What a route does; a map with one of these and `match` is a route.
const ACTIONS: [&str; 8] = [
    "route",
    "redirect",
    "direct_response",
    "directResponse",
    "filter_action",
    "filterAction",
    "non_forwarding_action",
    "nonForwardingAction",
];
/// The metadata namespace that policies are read from.
const NAMESPACE: &str = "anteroom";

/// The walk through the documents of one file.
pub(super) struct Walk<'w> {
    report: &'w mut Report,
    survey: &'w mut Survey,
    /// How many routes there are.
    pub(super) routes: usize,
    /// Which rooms are named.
    pub(super) rooms: BTreeSet<String>,
    /// Maps of context extensions without any key of ours.
    pub(super) other_services: usize,
    /// The document is a patch: what is missing in it may stand elsewhere.
    patch: bool,
}

/// The settings of one filter at one level.
#[derive(Clone)]
struct Layer<'a> {
    filter: &'a str,
    disabled: bool,
    context: Option<Rc<Context<'a>>>,
}

/// A map of policy keys.
struct Context<'a> {
    place: Place,
    pairs: Vec<(&'a str, &'a str)>,
    /// Every key and value is right and known.
    sound: bool,
}

/// A key of such a map.
struct Pair<'a> {
    key: &'a str,
    value: &'a Node,
    line: usize,
    path: String,
}

/// Where a map of policy keys stands, which decides what its values may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// A map of strings.
    Extensions,
    /// A protobuf `Struct`: numbers are fine.
    Metadata,
}

impl<'w> Walk<'w> {
    pub(super) fn new(report: &'w mut Report, survey: &'w mut Survey) -> Self {
        Self { report, survey, routes: 0, rooms: BTreeSet::new(), other_services: 0, patch: false }
    }

    pub(super) fn document(&mut self, root: &Node) {
        self.patch = root.get("kind").and_then(|kind| kind.value.text()) == Some("EnvoyFilter");
        self.walk(root, Path::Root, &[]);
    }

    /// Walks a node; answers whether a policy could be decided in it.
    fn walk<'a>(&mut self, node: &'a Node, path: Path<'_>, above: &[Layer<'a>]) -> bool {
        let mut decided = false;
        for (index, item) in node.items().iter().enumerate() {
            decided |= self.walk(item, path.index(index), above);
        }
        if !node.is_map() {
            return decided;
        }
        let own = self.layers(node, path);
        let joined = if own.is_empty() { Vec::new() } else { [above, &own].concat() };
        let layers = if own.is_empty() { above } else { &joined };
        for entry in node.entries() {
            let here = path.key(&entry.key);
            if CONTEXT.contains(&entry.key.as_str()) {
                let context = self.extensions(entry, here);
                self.decide(&[Layer { filter: "", disabled: false, context }]);
            } else if METADATA.contains(&entry.key.as_str()) {
                self.metadata(entry, here);
            } else if !PER_FILTER.contains(&entry.key.as_str()) {
                decided |= self.walk(&entry.value, here, layers);
            }
        }
        let route = node.get("match").is_some() && ACTIONS.iter().any(|action| node.get(action).is_some());
        self.routes += usize::from(route);
        // A layer with nothing below it is a part of something bigger, like a patch: decide what there is.
        let alone = !own.is_empty() && !decided;
        if (route && !every_cluster_has_layers(node)) || (alone && !route) {
            self.decide(layers);
        }
        decided || route || !own.is_empty()
    }

    /// The layers that a map's `typed_per_filter_config` adds, one for each filter it speaks of.
    fn layers<'a>(&mut self, node: &'a Node, path: Path<'_>) -> Vec<Layer<'a>> {
        let mut layers = Vec::new();
        let Some(per_filter) = node.get_either(PER_FILTER) else { return layers };
        let path = path.key(&per_filter.key);
        for filter in per_filter.value.entries() {
            let outer_path = path.key(&filter.key);
            // A FilterConfig wraps the filter's own message, and can disable the filter by itself.
            let (config, here) = match filter.value.get("config") {
                Some(inner) => (&inner.value, outer_path.key("config")),
                None => (&filter.value, outer_path),
            };
            let disabled = [&filter.value, config].into_iter().any(says_disabled);
            match config.get_either(CHECK_SETTINGS) {
                Some(settings) => {
                    let here = here.key(&settings.key);
                    let context = settings.value.get_either(CONTEXT);
                    let context = context.and_then(|entry| self.extensions(entry, here.key(&entry.key)));
                    layers.push(Layer { filter: &filter.key, disabled, context });
                }
                None if disabled => layers.push(Layer { filter: &filter.key, disabled, context: None }),
                None => {
                    self.walk(&filter.value, outer_path, &[]);
                }
            }
        }
        layers
    }

    /// Reads context extensions: a map of strings, or Envoy Gateway's list of names and values.
    fn extensions<'a>(&mut self, entry: &'a Entry, path: Path<'_>) -> Option<Rc<Context<'a>>> {
        let mut hidden = false;
        let pairs = match &entry.value.value {
            Value::Map(entries) => pairs_of(entries, path),
            Value::List(items) => {
                let named = items.iter().enumerate().filter_map(|(index, item)| {
                    let name = item.get("name")?.value.text()?;
                    let here = path.index(index);
                    let Some(value) = item.get("value") else {
                        // Its value stands in a ConfigMap or Secret.
                        hidden = true;
                        return None;
                    };
                    let path = here.key("value").to_string();
                    Some(Pair { key: name, value: &value.value, line: value.line, path })
                });
                named.collect()
            }
            Value::Scalar { .. } => {
                let problem = format!("is {}", entry.value.kind());
                self.report.add(entry.line, path, problem, "write a map of strings, like room: shop");
                return None;
            }
        };
        self.context(&pairs, hidden, Origin::Extensions, entry.line, path)
    }

    fn metadata(&mut self, entry: &Entry, path: Path<'_>) {
        let Some(namespace) = entry.value.get(NAMESPACE) else { return };
        let path = path.key(NAMESPACE);
        if !namespace.value.is_map() {
            let problem = format!("is {}", namespace.value.kind());
            self.report.add(namespace.line, path, problem, "write a map, like room: shop");
            return;
        }
        let pairs = pairs_of(namespace.value.entries(), path);
        let context = self.context(&pairs, false, Origin::Metadata, namespace.line, path);
        self.decide(&[Layer { filter: "", disabled: false, context }]);
    }

    /// Checks the keys and values of one map by themselves.
    fn context<'a>(
        &mut self,
        pairs: &[Pair<'a>],
        hidden: bool,
        origin: Origin,
        line: usize,
        path: Path<'_>,
    ) -> Option<Rc<Context<'a>>> {
        if origin == Origin::Extensions && !pairs.iter().any(|pair| looks_like_ours(pair.key)) {
            self.other_services += usize::from(!pairs.is_empty());
            return None;
        }
        let before = self.report.mistakes.len();
        let mut texts = Vec::new();
        for pair in pairs {
            if !ALL_KEYS.contains(&pair.key) {
                let mistake = unknown_key(pair.key, &ALL_KEYS);
                self.report.add(pair.line, &pair.path, mistake.problem, mistake.remedy);
                continue;
            }
            let Some(text) = pair.value.text() else {
                let problem = format!("is {}", pair.value.kind());
                self.report.add(pair.line, &pair.path, problem, "write a single value in quotes");
                continue;
            };
            texts.push((pair.key, text));
        }
        self.check_values(pairs, &texts, origin);
        let sound = self.report.mistakes.len() == before && !hidden;
        let place = Place { file: self.report.file.clone(), line, key: path.to_string() };
        Some(Rc::new(Context { place, pairs: texts, sound }))
    }

    /// Each value must be right by itself, and a string; what is missing may stand at another level.
    fn check_values(&mut self, pairs: &[Pair<'_>], texts: &[(&str, &str)], origin: Origin) {
        let stand_ins = [("room", "stand-in"), ("capacity", "1")];
        let missing = stand_ins.into_iter().filter(|(key, _)| texts.iter().all(|(given, _)| given != key));
        let whole: Vec<_> = texts.iter().copied().chain(missing).collect();
        let mut mistakes = Stated::parse(&whole, Source::ContextExtensions).err().unwrap_or_default();
        for pair in pairs {
            let text = pair.value.text().unwrap_or_default();
            if let Some(at) = mistakes.iter().position(|mistake| mistake.key == pair.key) {
                let mistake = mistakes.swap_remove(at);
                self.report.add(pair.line, &pair.path, mistake.problem, mistake.remedy);
            } else if let Some(kind) = not_a_string(pair.value)
                && ALL_KEYS.contains(&pair.key)
                && (origin == Origin::Extensions || kind != "a number")
            {
                let problem = format!("is {kind} to Envoy, and not a string");
                self.report.add(pair.line, &pair.path, problem, format!("write \"{}\"", text.escape_debug()));
            }
        }
    }

    /// What all layers together come to, for each filter by itself.
    fn decide(&mut self, layers: &[Layer<'_>]) {
        let filters: BTreeSet<&str> = layers.iter().map(|layer| layer.filter).collect();
        for filter in filters {
            let of_filter: Vec<_> = layers.iter().filter(|layer| layer.filter == filter).collect();
            // Only the most specific layer can disable the filter.
            if of_filter.last().is_some_and(|layer| layer.disabled) {
                continue;
            }
            let contexts: Vec<_> = of_filter.iter().filter_map(|layer| layer.context.as_deref()).collect();
            let merged: BTreeMap<&str, &str> =
                contexts.iter().flat_map(|context| context.pairs.iter().copied()).collect();
            if let Some(room) = merged.get("room").filter(|room| RoomName::parse(room.trim()).is_some()) {
                self.rooms.insert(room.trim().to_owned());
            }
            if let Some(nearest) = contexts.last()
                && contexts.iter().all(|context| context.sound)
            {
                self.settle(&merged, &nearest.place);
            }
        }
    }

    fn settle(&mut self, merged: &BTreeMap<&str, &str>, place: &Place) {
        let of_policy = merged.keys().filter(|key| !gates::KEYS.contains(key)).count();
        match (merged.get("room"), of_policy) {
            (Some(room), 1) => return self.survey.name(room.trim(), place.clone()),
            (None, _) if self.patch => return,
            _ => {}
        }
        let pairs: Vec<_> = merged.iter().map(|(key, value)| (*key, *value)).collect();
        match Stated::parse(&pairs, Source::ContextExtensions) {
            Ok(stated) => {
                if let Some((policy, _)) = stated.room {
                    self.survey.state(Arc::unwrap_or_clone(policy), place.clone());
                }
            }
            Err(mistakes) => {
                for mistake in mistakes {
                    let key = format!("{}.{}", place.key, mistake.key);
                    self.report.add(place.line, key, mistake.problem, mistake.remedy);
                }
            }
        }
    }
}

fn pairs_of<'a>(entries: &'a [Entry], path: Path<'_>) -> Vec<Pair<'a>> {
    let pair = |entry: &'a Entry| Pair {
        key: &entry.key,
        value: &entry.value,
        line: entry.line,
        path: path.key(&entry.key).to_string(),
    };
    entries.iter().map(pair).collect()
}

fn says_disabled(config: &Node) -> bool {
    config.get("disabled").and_then(|entry| entry.value.text()).is_some_and(|text| text == "true")
}

/// Whether every weighted cluster of a route has layers of its own, so that none gets the route's bare ones.
fn every_cluster_has_layers(route: &Node) -> bool {
    let clusters = route
        .get("route")
        .and_then(|action| action.value.get_either(WEIGHTED))
        .and_then(|weighted| weighted.value.get("clusters"))
        .map_or(&[][..], |clusters| clusters.value.items());
    !clusters.is_empty() && clusters.iter().all(|cluster| cluster.get_either(PER_FILTER).is_some())
}

/// A key of ours, or a likely slip of the pen for one.
fn looks_like_ours(key: &str) -> bool {
    ALL_KEYS.contains(&key) || unknown_key(key, &ALL_KEYS).remedy.starts_with("did you mean")
}

/// What Envoy's YAML reader takes a plain scalar for, when that is not a string. It knows the many booleans of
/// YAML 1.1, and whole numbers of 32 bits; fractions and larger numbers stay strings. (Envoy 1.40 refuses booleans
/// and numbers where a string belongs, and takes a null for an empty string.)
fn not_a_string(node: &Node) -> Option<&'static str> {
    const EMPTY: [&str; 5] = ["", "~", "null", "Null", "NULL"];
    const BOOLEANS: [&str; 8] = ["y", "n", "yes", "no", "on", "off", "true", "false"];
    let Value::Scalar { text, plain: true } = &node.value else { return None };
    // yes, Yes and YES are booleans, yEs is not.
    let shapes = |word: &str| {
        let (first, rest) = word.split_at(1);
        *text == *word || *text == word.to_uppercase() || *text == first.to_uppercase() + rest
    };
    let hex = text.strip_prefix("0x").is_some_and(|digits| i32::from_str_radix(digits, 16).is_ok());
    if EMPTY.contains(&text.as_str()) {
        Some("empty")
    } else if BOOLEANS.into_iter().any(shapes) {
        Some("a boolean")
    } else {
        (hex || text.parse::<i32>().is_ok()).then_some("a number")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `envoy --mode validate` (1.40) judged each of these as a context extension.
    #[test]
    fn plain_scalars_are_judged_as_envoy_judges_them() {
        let kind = |text: &str, plain| {
            not_a_string(&Node { line: 1, value: Value::Scalar { text: text.into(), plain } })
        };
        for refused in ["5", "off", "y", "Yes", "NO", "0x10", "010", "+5", "-5", "True"] {
            assert!(matches!(kind(refused, true), Some("a number" | "a boolean")), "{refused}");
            assert_eq!(kind(refused, false), None);
        }
        for taken in ["yEs", "1.5", "10/s", "2147483648", ".nan", "1e3", "12:30", "é", "shop"] {
            assert_eq!(kind(taken, true), None, "{taken}");
        }
        for empty in ["", "~", "null"] {
            assert_eq!(kind(empty, true), Some("empty"));
        }
    }
}
