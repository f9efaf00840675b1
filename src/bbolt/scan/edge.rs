//! What is kept of each page that has passed: one number that leads on along the right edge of a tree.

/// What a page says about the right edge of a tree that it may belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    /// Not a node, or its last element has not passed yet.
    Unknown,
    EmptyLeaf,
    /// The last child of a branch.
    Child(u64),
    /// The first eight bytes of a leaf's last key.
    LastKey(u64),
}

/// An [`Edge`] in eight bytes: revisions are not negative, so the upper half of the numbers is free for the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackedEdge(u64);

impl PackedEdge {
    const UNKNOWN: u64 = u64::MAX;
    const EMPTY_LEAF: u64 = u64::MAX - 1;
    const CHILD: u64 = 1 << 63;

    pub(super) fn pack(edge: Edge) -> Self {
        PackedEdge(match edge {
            Edge::EmptyLeaf => Self::EMPTY_LEAF,
            Edge::Child(page) if page < Self::CHILD >> 1 => Self::CHILD | page,
            Edge::LastKey(key) if key < Self::CHILD => key,
            Edge::Unknown | Edge::Child(_) | Edge::LastKey(_) => Self::UNKNOWN,
        })
    }

    pub(super) fn unpack(self) -> Edge {
        match self.0 {
            Self::UNKNOWN => Edge::Unknown,
            Self::EMPTY_LEAF => Edge::EmptyLeaf,
            packed if packed & Self::CHILD != 0 => Edge::Child(packed & !Self::CHILD),
            key => Edge::LastKey(key),
        }
    }
}
