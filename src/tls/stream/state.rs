//! State of a stream in a form that another process can go on with.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Layer, RawConnection, Stream, Unsent};
use crate::tls::record::{LONGEST_RECORD, RecordState, Records, StreamEnd};

/// State of a stream, apart from the connection below it. Its secrets are zeroed when it is dropped.
#[derive(Debug, Serialize, Deserialize)]
pub struct StreamState {
    records: Known,
    /// Beginning of a record whose rest has yet to come.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "crate::base64_text")]
    partial: Vec<u8>,
    /// Records that the connection below has yet to take.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "crate::base64_text")]
    unsent: Vec<u8>,
    /// Bytes of data in them with which the next write begins.
    #[serde(default, skip_serializing_if = "is_zero")]
    unsent_data: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<StreamEnd>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    closing: bool,
}

impl StreamState {
    /// Tells whether a stream can go on in this state, where its caller has yet to bring `kept` bytes of data.
    pub fn is_sound(&self, kept: usize) -> bool {
        self.partial.len() < LONGEST_RECORD && self.unsent_data <= self.unsent.len().min(kept)
    }
}

/// A record layer in a handover: its state as the other process sent it, or the layer that was made of that state.
#[derive(Debug)]
enum Known {
    Told(Box<RecordState>),
    Made(Box<Records>),
}

impl Serialize for Known {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Told(state) => state.serialize(serializer),
            Self::Made(records) => records.state().serialize(serializer),
        }
    }
}

/// Makes the record layer at once, so that a state that does not fit together is refused where it is read.
impl<'d> Deserialize<'d> for Known {
    fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        let records = Records::resume(RecordState::deserialize(deserializer)?);
        let records = records.ok_or_else(|| de::Error::custom("keys of TLS that do not fit their cipher"))?;
        Ok(Self::Made(Box::new(records)))
    }
}

impl<T: RawConnection> Stream<T> {
    /// The state as it is now; `None` where the stream cannot go on in another process. Only one of the two may go on.
    pub fn state(&self) -> Option<StreamState> {
        let Layer::Records(records) = &self.layer else { return None };
        let (unsent, unsent_data) = match &self.unsent {
            Some(unsent) => (unsent.bytes[unsent.written..].to_vec(), unsent.data),
            None => (Vec::new(), 0),
        };
        Some(StreamState {
            records: Known::Told(Box::new(records.state())),
            partial: self.partial.clone(),
            unsent,
            unsent_data,
            end: self.end,
            closing: self.closing,
        })
    }

    /// Goes on, over the connection `below`, where a stream of another process left off.
    pub fn resume(below: T, state: StreamState) -> Self {
        let StreamState { records, partial, unsent, unsent_data, end, closing } = state;
        let layer = match records {
            Known::Made(records) => Layer::Records(records),
            Known::Told(state) => {
                Records::resume(*state).map_or(Layer::Nothing, |records| Layer::Records(Box::new(records)))
            }
        };
        let unsent = (!unsent.is_empty()).then(|| Box::new(Unsent { bytes: unsent, written: 0, data: unsent_data }));
        Self { below, layer, partial, unsent, end, closing }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields so")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}
