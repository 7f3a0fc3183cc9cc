//! Requests over HTTP(S), through a proxy where the environment names one.

use std::time::Duration;

use ureq::http::header::{ACCEPT_ENCODING, IF_RANGE, RANGE};
use ureq::{Agent, Proxy, http};

use crate::error::{Error, Result};

/// How long a server may take to be reached, to begin its answer, and to send its next bytes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Answers with another address in a row.
const MOST_REDIRECTS: u32 = 10;
/// Variables of the environment; the first that is set counts (`ureq::Proxy::try_from_env`).
const PROXIES: [&str; 6] = ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];

/// Makes requests.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
}

/// The beginning of an answer.
pub(super) struct Answer {
    pub status: u16,
    headers: http::HeaderMap,
    pub body: ureq::BodyReader<'static>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Client {
    /// For addresses that begin with `https:`, and then for nothing else, or for any.
    ///
    /// # Errors
    /// A proxy of the environment that is no address.
    pub fn new(secure: bool) -> Result<Self> {
        for name in PROXIES {
            let value = std::env::var(name).unwrap_or_default();
            if !value.is_empty() && Proxy::new(&value).is_err() {
                return Err(Error::usage(format!("{name} is set, but '{value}' is no address of a proxy"))
                    .hint("as in http://host:3128"));
            }
        }
        let config = Agent::config_builder()
            .proxy(Proxy::try_from_env())
            .https_only(secure)
            .http_status_as_error(false)
            .max_redirects(MOST_REDIRECTS)
            .user_agent(concat!("ulmfit/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .build();
        Ok(Client { agent: config.new_agent() })
    }

    /// Asks for a file from a byte on; `unless`: only if it is still what this names, else for all
    /// of it.
    ///
    /// # Errors
    /// The server cannot be reached, or does not answer.
    pub(super) fn get(&self, address: &str, from: u64, unless: Option<&str>) -> Result<Answer> {
        let mut request = self.agent.get(address).header(ACCEPT_ENCODING, "identity");
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
            if let Some(unless) = unless {
                request = request.header(IF_RANGE, unless);
            }
        }
        let (parts, body) = request.call().map_err(|e| failed(address, &e))?.into_parts();
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body: body.into_reader() })
    }
}

/// A fault of the network as a sentence.
fn failed(address: &str, error: &ureq::Error) -> Error {
    let why = match error {
        ureq::Error::RequireHttpsOnly(to) => format!("it leads to {to}, which is not https"),
        ureq::Error::HostNotFound => "there is no such host".into(),
        ureq::Error::TooManyRedirects => format!("more than {MOST_REDIRECTS} redirections"),
        ureq::Error::Timeout(_) => "the server does not answer".into(),
        other => other.to_string(),
    };
    Error::data(format!("cannot get {address}: {why}"))
        .hint("HTTPS_PROXY names a proxy, ULMFIT_MIRROR a server with the same files")
}
