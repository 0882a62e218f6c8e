//! The choice of the program that makes the load.

/// A generator of messages and handshakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Generator {
    /// This program: one thread, epoll by mio
    Mio,
    /// Another program: one thread, Tokio; messages and handshakes only
    Tokio,
    /// The same in a network namespace of its own; as root
    TokioNetns,
}

impl Generator {
    /// Its description in the report.
    pub fn title(self) -> &'static str {
        match self {
            Self::Mio => "mio",
            Self::Tokio => "Tokio, another program",
            Self::TokioNetns => "Tokio, another program in a network namespace of its own",
        }
    }
}
