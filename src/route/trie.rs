//! A trie over the parts of a name or path. Its nodes are in one list, so that depth costs neither stack nor recursion.

use std::collections::HashMap;

/// Values by sequences of parts.
#[derive(Debug)]
pub(super) struct Trie<T> {
    /// Nodes, the root first; children come after their parent.
    nodes: Vec<Node<T>>,
}

#[derive(Debug, Default)]
struct Node<T> {
    value: T,
    children: HashMap<Box<str>, usize>,
}

impl<T: Default> Default for Trie<T> {
    fn default() -> Self {
        Self { nodes: vec![Node::default()] }
    }
}

impl<T: Default> Trie<T> {
    /// The value at the end of `parts`; missing nodes are created.
    pub(super) fn entry<'a>(&mut self, parts: impl Iterator<Item = &'a str>) -> &mut T {
        let mut at = 0;
        for part in parts {
            at = match self.nodes[at].children.get(part) {
                Some(&child) => child,
                None => {
                    let child = self.nodes.len();
                    self.nodes.push(Node::default());
                    self.nodes[at].children.insert(part.into(), child);
                    child
                }
            };
        }
        &mut self.nodes[at].value
    }

    /// Tells whether the trie has no node but its root.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    /// The values of the nodes along `parts`, from the root to the last node that exists.
    pub(super) fn walk<'a>(&self, mut parts: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &T> {
        std::iter::successors(self.nodes.first(), move |node| {
            let child = node.children.get(parts.next()?)?;
            self.nodes.get(*child)
        })
        .map(|node| &node.value)
    }
}
