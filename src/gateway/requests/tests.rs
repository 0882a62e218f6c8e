//! Requests, read from bytes that come in pieces.
