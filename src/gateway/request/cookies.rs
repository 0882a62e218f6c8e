//! Cookies of affinity on their way through the gateway: places before the values of sessions that backends begin, and
//! the cookie that Longhaul issues.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use pingora::Result;
use pingora::http::ResponseHeader;

use super::context::Ctx;
use crate::affinity::born::{self, RingPlace};
use crate::affinity::made_private;
use crate::config::AffinitySource;
use crate::http1::HeaderFields;
use crate::http1::fields::FieldLine;
use crate::upstream::Ring;

impl Ctx {
    /// The affinity sources of the request's route, or of the upstream that a hook chose.
    fn sources(&self) -> &[AffinitySource] {
        let Some(route) = self.request.as_ref().and_then(|request| request.route) else { return &[] };
        let chosen = self.hooks.as_ref().and_then(|hooks| hooks.to());
        self.snapshot.sources(route, chosen.map(|to| to.upstream.config().name.as_str()))
    }

    /// Edits the cookies in a request's lines for the backend: takes places off, and adds the cookie that is about to
    /// be issued, so that a gateway behind this one does not issue it again.
    pub(in crate::gateway) fn edit_request_lines(&self, lines: &mut Vec<FieldLine<'_>>) {
        let names = || born::names(self.sources());
        if names().next().is_some() {
            for line in lines.iter_mut().filter(|line| is(line, &header::COOKIE)) {
                if let Some(unmarked) = born::unmarked(&line.value, names()) {
                    line.value = Cow::Owned(unmarked.as_bytes().to_vec());
                }
            }
        }
        let Some(issued) = self.issued_pair() else { return };
        match lines.iter_mut().rfind(|line| is(line, &header::COOKIE)) {
            Some(line) => line.value.to_mut().extend_from_slice(format!("; {issued}").as_bytes()),
            None => lines.push(FieldLine { name: "Cookie", value: Cow::Owned(issued.as_bytes().to_vec()) }),
        }
    }

    /// Edits the cookies in a request's header for the backend, as [`edit_request_lines`](Self::edit_request_lines)
    /// does.
    pub(in crate::gateway) fn edit_request(&self, headers: &mut HeaderMap) {
        born::unmark(headers, born::names(self.sources()));
        let Some(issued) = self.issued_pair() else { return };
        let mut lines: Vec<Vec<u8>> = headers.values_of(&header::COOKIE).map(<[u8]>::to_vec).collect();
        match lines.last_mut() {
            Some(line) => line.extend_from_slice(format!("; {issued}").as_bytes()),
            None => lines.push(issued.as_bytes().to_vec()),
        }
        headers.remove(header::COOKIE);
        for line in lines {
            // The first part was a header's value before, and the other one is made of a cookie's name and digits.
            headers
                .append(header::COOKIE, HeaderValue::from_maybe_shared(Bytes::from(line)).expect("a header's value"));
        }
    }

    /// The lines of a backend's answer with places before the values of the sessions that it begins.
    pub(in crate::gateway) fn edit_answer_lines<'a, 'b>(&self, lines: &'a [FieldLine<'b>]) -> Cow<'a, [FieldLine<'b>]> {
        let names = || born::names(self.sources());
        let Some(place) = names().next().and_then(|_| self.place()) else { return Cow::Borrowed(lines) };
        let edited = lines.iter().map(|line| {
            let marked = is(line, &header::SET_COOKIE).then(|| born::marked(&line.value, names(), &place)).flatten();
            let value = marked.map_or_else(|| line.value.clone(), |marked| Cow::Owned(marked.as_bytes().to_vec()));
            FieldLine { name: line.name, value }
        });
        Cow::Owned(edited.collect())
    }

    /// The header of a backend's answer with places before the values of the sessions that it begins.
    pub(in crate::gateway) fn edit_answer(&self, headers: &mut HeaderMap) {
        let names = || born::names(self.sources());
        if let Some(place) = names().next().and_then(|_| self.place()) {
            born::mark(headers, names(), &place);
        }
    }

    /// The `Set-Cookie` value of the issued cookie, unless the answer, whose `fields` these are, sets a cookie of that
    /// name itself.
    pub(in crate::gateway) fn set_cookie_beside(&self, fields: &(impl HeaderFields + ?Sized)) -> Option<&str> {
        let issued = self.request.as_ref()?.key.as_ref()?.set_cookie.as_deref()?;
        let name = issued.split('=').next()?;
        let sets_it =
            |line: &[u8]| line.split(|byte| *byte == b'=').next().is_some_and(|n| n.trim_ascii() == name.as_bytes());
        (!fields.values_of(&header::SET_COOKIE).any(sets_it)).then_some(issued)
    }

    /// Adds to a backend's answer the cookie that is issued with it, beside the backend's own, and the places of
    /// sessions.
    pub(super) fn set_cookies(&self, response: &mut ResponseHeader) -> Result<()> {
        if response.headers.contains_key(header::SET_COOKIE) && born::names(self.sources()).next().is_some() {
            let mut headers = response.headers.clone();
            self.edit_answer(&mut headers);
            response.remove_header(&header::SET_COOKIE);
            for line in headers.get_all(header::SET_COOKIE) {
                response.append_header(header::SET_COOKIE, line)?;
            }
        }
        let Some(cookie) = self.set_cookie_beside(&response.headers) else { return Ok(()) };
        response.append_header(header::SET_COOKIE, cookie)?;
        let method = self.request.as_ref().map_or("", |request| request.method.as_str());
        let lines = response.headers.values_of(&header::CACHE_CONTROL);
        match made_private(method, response.status.as_u16(), lines) {
            Some(control) => response.insert_header(header::CACHE_CONTROL, control),
            None => Ok(()),
        }
    }

    /// The place of a session that the backend at work begins: one of that backend's own points on the ring. A backend
    /// that is not on the ring has none, and the key's own place is kept.
    fn place(&self) -> Option<RingPlace> {
        let hash = Ring::hash(&self.request.as_ref()?.key.as_ref()?.bytes);
        let own = self.pick.as_ref().and_then(|pick| self.to()?.upstream.point_of(pick.index, hash));
        Some(born::place(own.unwrap_or(hash)))
    }

    /// The `NAME=VALUE` of the cookie that is about to be issued.
    fn issued_pair(&self) -> Option<&str> {
        self.request.as_ref()?.key.as_ref()?.set_cookie.as_deref()?.split(';').next()
    }
}

fn is(line: &FieldLine<'_>, name: &header::HeaderName) -> bool {
    line.name.eq_ignore_ascii_case(name.as_str())
}
