//! Puts a tree together from the parser's events, and refuses what grows too large or too deep.

use std::collections::HashMap;

use saphyr_parser::{Event, ScalarStyle};

use super::{Entry, MAX_DEPTH, MAX_NODES, Node, Path, Value};
use crate::config::{Grade, Mistake, Report};

enum Container {
    /// Items, and how many there were with those that were handed over.
    List(Vec<Node>, usize),
    Map {
        entries: Vec<Entry>,
        pending: Option<(String, usize)>,
    },
}

struct Frame {
    line: usize,
    anchor: usize,
    container: Container,
}

/// Who takes the items of the list under a key at the root, each with its place in that list. An error ends the reading.
pub(super) struct Taker<'r> {
    pub(super) key: &'r str,
    pub(super) take: &'r mut dyn FnMut(usize, Node, &mut Report) -> Result<(), Mistake>,
}

pub(super) struct Builder<'r> {
    report: &'r mut Report,
    taker: Option<Taker<'r>>,
    frames: Vec<Frame>,
    pub(super) roots: Vec<Node>,
    /// Finished anchored nodes with their size and depth.
    anchors: HashMap<usize, (Node, usize, usize)>,
    nodes: usize,
}

impl<'r> Builder<'r> {
    pub(super) fn new(report: &'r mut Report, taker: Option<Taker<'r>>) -> Self {
        Self { report, taker, frames: Vec::new(), roots: Vec::new(), anchors: HashMap::new(), nodes: 0 }
    }

    pub(super) fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), Mistake> {
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let node = Node { line, value: Value::Scalar { text: text.into_owned(), plain } };
                self.count(1, line)?;
                self.finish(node, anchor)
            }
            Event::SequenceStart(anchor, _) => self.open(line, anchor, Container::List(Vec::new(), 0)),
            Event::MappingStart(anchor, _) => {
                self.open(line, anchor, Container::Map { entries: Vec::new(), pending: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => {
                let Some((node, nodes, depth)) = self.anchors.get(&anchor).cloned() else {
                    return Err(self.refuse(line, "an alias stands inside its own anchor", "write it out"));
                };
                self.count(nodes, line)?;
                self.deep_enough(depth, line)?;
                self.attach(node)
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn open(&mut self, line: usize, anchor: usize, container: Container) -> Result<(), Mistake> {
        self.count(1, line)?;
        self.deep_enough(1, line)?;
        self.frames.push(Frame { line, anchor, container });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Mistake> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        let value = match frame.container {
            Container::List(mut items, _) => {
                items.shrink_to_fit();
                Value::List(items)
            }
            Container::Map { mut entries, .. } => {
                self.report_repeats(&entries);
                // Room for four is made with the first, and there may be a map for each line.
                entries.shrink_to_fit();
                Value::Map(entries)
            }
        };
        self.finish(Node { line: frame.line, value }, frame.anchor)
    }

    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Mistake> {
        // The parser numbers anchors from 1; 0 means none.
        if anchor > 0 {
            let (nodes, depth) = node.measure();
            self.count(nodes, node.line)?;
            self.anchors.insert(anchor, (node.clone(), nodes, depth));
        }
        self.attach(node)
    }

    fn attach(&mut self, node: Node) -> Result<(), Mistake> {
        let is_taken = self.is_taken();
        let Some(frame) = self.frames.last_mut() else {
            self.roots.push(node);
            return Ok(());
        };
        match &mut frame.container {
            Container::List(items, count) => {
                *count += 1;
                match &mut self.taker {
                    Some(taker) if is_taken => return (taker.take)(*count - 1, node, self.report),
                    _ => items.push(node),
                }
            }
            Container::Map { entries, pending } => match (pending.take(), node) {
                (Some((key, line)), value) => entries.push(Entry { key, line, value }),
                (None, Node { line, value: Value::Scalar { text, .. } }) => *pending = Some((text, line)),
                (None, Node { line, .. }) => {
                    return Err(self.refuse(
                        line,
                        "a map or list stands where a key belongs",
                        "write a name",
                    ));
                }
            },
        }
        Ok(())
    }

    /// Whether what comes next is an item of the taker's list.
    fn is_taken(&self) -> bool {
        let Some(taker) = &self.taker else { return false };
        let [Frame { container: Container::Map { pending: Some((key, _)), .. }, .. }, list] =
            &self.frames[..]
        else {
            return false;
        };
        self.roots.is_empty() && key == taker.key && matches!(list.container, Container::List(..))
    }

    fn report_repeats(&mut self, entries: &[Entry]) {
        let mut sorted: Vec<_> = entries.iter().map(|entry| (entry.key.as_str(), entry.line)).collect();
        sorted.sort_unstable();
        for pair in sorted.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            let (key, line) = pair[1];
            let path = self.path_to(key);
            let problem = format!("is written twice in one map, first in line {}", pair[0].1);
            self.report.add(line, path, problem, "keep one of them");
        }
    }

    /// The path of a key of the map that was just closed: the open frames lead there.
    fn path_to(&self, key: &str) -> String {
        fn down(frames: &[Frame], path: &Path<'_>, key: &str) -> String {
            match frames.split_first() {
                None => path.key(key).to_string(),
                Some((Frame { container: Container::List(_, count), .. }, rest)) => {
                    down(rest, &path.index(*count), key)
                }
                Some((Frame { container: Container::Map { pending, .. }, .. }, rest)) => {
                    let name = pending.as_ref().map_or("", |(name, _)| name);
                    down(rest, &path.key(name), key)
                }
            }
        }
        down(&self.frames, &Path::Root, key)
    }

    fn count(&mut self, nodes: usize, line: usize) -> Result<(), Mistake> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            let problem = format!("the file comes to more than {MAX_NODES} values, aliases written out");
            return Err(self.refuse(line, problem, "split the file, or use fewer aliases"));
        }
        Ok(())
    }

    fn deep_enough(&self, more: usize, line: usize) -> Result<(), Mistake> {
        if self.frames.len() + more > MAX_DEPTH {
            let problem = format!("is nested deeper than {MAX_DEPTH} levels");
            return Err(self.refuse(line, problem, "nest less"));
        }
        Ok(())
    }

    pub(super) fn refuse(&self, line: usize, problem: impl Into<String>, remedy: &str) -> Mistake {
        Mistake {
            file: Some(self.report.file.clone()),
            line: Some(line),
            key: String::new(),
            problem: problem.into(),
            remedy: remedy.into(),
            grade: Grade::Unreadable,
        }
    }
}
