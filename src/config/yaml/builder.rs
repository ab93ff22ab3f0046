//! Puts a tree together from the parser's events, and refuses what grows too large or too deep.

use std::collections::HashMap;

use saphyr_parser::{Event, ScalarStyle};

use super::{Entry, MAX_DEPTH, MAX_NODES, Node, Path, Value};
use crate::config::{Grade, Mistake, Report};

enum Container {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, pending: Option<(String, usize)> },
}

struct Frame {
    line: usize,
    anchor: usize,
    container: Container,
}

pub(super) struct Builder<'r> {
    report: &'r mut Report,
    frames: Vec<Frame>,
    pub(super) roots: Vec<Node>,
    /// Finished anchored nodes with their size and depth.
    anchors: HashMap<usize, (Node, usize, usize)>,
    nodes: usize,
}

impl<'r> Builder<'r> {
    pub(super) fn new(report: &'r mut Report) -> Self {
        Self { report, frames: Vec::new(), roots: Vec::new(), anchors: HashMap::new(), nodes: 0 }
    }

    pub(super) fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), Mistake> {
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let node = Node { line, value: Value::Scalar { text: text.into_owned(), plain } };
                self.count(1, line)?;
                self.finish(node, anchor)
            }
            Event::SequenceStart(anchor, _) => self.open(line, anchor, Container::List(Vec::new())),
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
            Container::List(items) => Value::List(items),
            Container::Map { entries, .. } => {
                self.report_repeats(&entries);
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
        let Some(frame) = self.frames.last_mut() else {
            self.roots.push(node);
            return Ok(());
        };
        match &mut frame.container {
            Container::List(items) => items.push(node),
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
                Some((Frame { container: Container::List(items), .. }, rest)) => {
                    down(rest, &path.index(items.len()), key)
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
