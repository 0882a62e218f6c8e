//! Reasons for which tunnels end.

use serde::{Deserialize, Serialize};

use crate::ws::Side;

/// Reason of a tunnel's end; the `reason` of the log line and of `longhaul_tunnels_ended_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The client sent the first Close frame.
    ClientClose,
    /// The backend sent the first Close frame.
    BackendClose,
    /// The client's connection ended without a Close frame.
    ClientGone,
    /// The backend's connection ended without a Close frame.
    BackendGone,
    /// No byte in either direction for `tunnel.idle`.
    Idle,
    /// Open for `tunnel.max_age`.
    MaxAge,
    /// A side left a Ping unanswered for `tunnel.ping`.
    PingTimeout,
    /// A side took none of the bytes that waited for it for `tunnel.stall`, or `tunnel.tcp_user_timeout`, and was
    /// alive.
    Stalled {
        /// The side.
        side: Side,
    },
    /// A message was longer than `tunnel.max_message`.
    MessageTooBig,
    /// The client sent more than the rates of `tunnel` allow, and `over_rate` is `close`.
    OverRate,
    /// The backend went down and `health.on_down` is `close`.
    BackendDown,
    /// The operator drains the backend.
    BackendDrained,
    /// An operator closed it.
    OperatorClosed {
        /// The status code asked for.
        code: u16,
    },
    /// A reload took its route or its backend away, and `on_change` is `close`.
    Changed,
    /// Its key belongs to another backend since a reload, and `rehome` is on.
    Rehomed,
    /// Its backend went and it could not be re-attached to another one.
    NotReattached {
        /// The status code of the Close frame (`reattach.code`).
        code: u16,
    },
    /// A hook ended it.
    HookClosed {
        /// The status code that it chose.
        code: u16,
    },
    /// A hook failed.
    HookFailed,
    /// Hooks see the messages of a side that broke the rules of RFC 6455.
    ProtocolError,
    /// Hooks see the messages of a side whose text is not UTF-8, or that compresses what cannot be read.
    InvalidPayload,
    /// Its unfinished messages were the largest when the hooks' memory of its worker was full.
    HookMemory,
    /// The gateway made a mistake on the tunnel and caught it.
    InternalError,
    /// The gateway is ending.
    Shutdown {
        /// The status code of the Close frames (`drain.code`); 1006 where none are sent.
        code: u16,
    },
}

impl Reason {
    /// The label in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientClose => "client_close",
            Self::BackendClose => "backend_close",
            Self::ClientGone => "client_gone",
            Self::BackendGone => "backend_gone",
            Self::Idle => "idle",
            Self::MaxAge => "max_age",
            Self::PingTimeout => "ping_timeout",
            Self::Stalled { .. } => "stalled",
            Self::MessageTooBig => "message_too_big",
            Self::OverRate => "over_rate",
            Self::BackendDown => "backend_down",
            Self::BackendDrained => "backend_drained",
            Self::OperatorClosed { .. } => "operator_closed",
            Self::Changed => "config_changed",
            Self::Rehomed => "rehomed",
            Self::NotReattached { .. } => "not_reattached",
            Self::HookClosed { .. } => "hook_closed",
            Self::HookFailed => "hook_failed",
            Self::ProtocolError => "protocol_error",
            Self::InvalidPayload => "invalid_payload",
            Self::HookMemory => "hook_memory",
            Self::InternalError => "internal_error",
            Self::Shutdown { .. } => "shutdown",
        }
    }

    /// Party that ended the tunnel.
    pub fn by(self) -> &'static str {
        match self {
            Self::ClientClose | Self::ClientGone | Self::Stalled { side: Side::Client } => "client",
            Self::BackendClose | Self::BackendGone | Self::Stalled { side: Side::Backend } => "backend",
            _ => "gateway",
        }
    }

    /// The status code of the Close frames that the gateway sends for this reason (RFC 6455 §7.4.1 and its IANA
    /// registry); `None` where it sends none or another rule chooses.
    pub(super) fn close_code(self) -> Option<u16> {
        match self {
            Self::Idle | Self::MaxAge | Self::PingTimeout | Self::Stalled { .. } => Some(1001),
            Self::Shutdown { code }
            | Self::HookClosed { code }
            | Self::OperatorClosed { code }
            | Self::NotReattached { code } => Some(code),
            Self::ProtocolError => Some(1002),
            Self::InvalidPayload => Some(1007),
            Self::OverRate => Some(1008),
            Self::HookFailed | Self::InternalError => Some(1011),
            Self::HookMemory => Some(1013),
            Self::BackendDown | Self::BackendDrained | Self::Changed | Self::Rehomed => Some(1012),
            Self::MessageTooBig => Some(1009),
            Self::BackendGone => Some(1014),
            Self::ClientClose | Self::BackendClose | Self::ClientGone => None,
        }
    }
}
