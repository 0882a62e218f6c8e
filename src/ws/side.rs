//! The two sides of a WebSocket connection through the gateway, and a value for each of them.

use std::ops::{Index, IndexMut};

use serde::{Deserialize, Serialize};

/// One of the two sides; also names the direction whose bytes it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Asks for the tunnel. Each of its frames must be masked (RFC 6455 §5.1).
    Client,
    /// Accepts the tunnel. None of its frames may be masked (RFC 6455 §5.1).
    Backend,
}

impl Side {
    /// Both sides, in the order that [`Sides`] keeps.
    pub const ALL: [Self; 2] = [Self::Client, Self::Backend];

    /// The other side.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }

    /// Name of the side in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
        }
    }
}

/// A value for each side, indexed by [`Side`]. Serialized as a list: the client's, then the backend's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sides<T>([T; 2]);

impl<T> Sides<T> {
    /// The values of both sides.
    pub const fn new(client: T, backend: T) -> Self {
        Self([client, backend])
    }

    /// The values that `make` gives for the sides, the client's first.
    pub fn from_fn(make: impl FnMut(Side) -> T) -> Self {
        Self(Side::ALL.map(make))
    }

    /// Both values, the client's first.
    pub fn into_array(self) -> [T; 2] {
        self.0
    }

    /// References to both values.
    pub fn each_ref(&self) -> Sides<&T> {
        Sides(self.0.each_ref())
    }

    /// The results of `change` for both values, the client's first.
    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Sides<U> {
        Sides(self.0.map(change))
    }

    /// Iterates over both values, the client's first.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    /// Iterates over both values, the client's first, to change them.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, T> {
        self.0.iter_mut()
    }
}

impl<T> From<[T; 2]> for Sides<T> {
    /// The client's value, then the backend's.
    fn from(values: [T; 2]) -> Self {
        Self(values)
    }
}

impl<T> Index<Side> for Sides<T> {
    type Output = T;

    #[inline]
    fn index(&self, side: Side) -> &T {
        let [client, backend] = &self.0;
        match side {
            Side::Client => client,
            Side::Backend => backend,
        }
    }
}

impl<T> IndexMut<Side> for Sides<T> {
    #[inline]
    fn index_mut(&mut self, side: Side) -> &mut T {
        let [client, backend] = &mut self.0;
        match side {
            Side::Client => client,
            Side::Backend => backend,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_has_its_own_value() {
        let mut sides = Sides::from_fn(|side| side.as_str().to_owned());
        sides[Side::Backend].push('!');
        assert_eq!(sides, Sides::new("client".into(), "backend!".into()));
    }

    #[test]
    fn both_values_travel_as_a_list() {
        let text = serde_json::to_string(&Sides::new(1, 2)).unwrap();
        assert_eq!(text, "[1,2]");
        assert_eq!(serde_json::from_str::<Sides<u8>>(&text).unwrap(), Sides::new(1, 2));
    }
}
