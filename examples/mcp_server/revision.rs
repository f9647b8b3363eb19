//! The revisions of the protocol, which are of two eras: since 2026-07-28 there is no handshake and no session, and each
//! request carries what the handshake negotiated before.
//!
//! <https://modelcontextprotocol.io/specification/2026-07-28/basic/versioning>

use rocket::serde::json::{Value, json};

use super::{
    message::{Message, RpcError},
    transport::Mirrored,
};

const MODERN: &str = "2026-07-28";
/// Those with a handshake, the newest first.
pub const LEGACY: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];
/// All that this server speaks, the newest first.
pub const VERSIONS: [&str; 4] = [MODERN, LEGACY[0], LEGACY[1], LEGACY[2]];

const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Era {
    Legacy,
    Modern,
}

impl Era {
    /// The era of a message, if it has all that its revision demands. A proxy may act on the headers, and this server acts
    /// on the body: they must match.
    pub fn of(message: &Message, headers: &Mirrored) -> Result<Era, RpcError> {
        let version = headers.version.as_deref();
        let meta = &message.params["_meta"];
        let declared = meta[PROTOCOL_VERSION].as_str();
        let is_request = message.id.is_some();
        if is_request && declared.is_some() && declared != version {
            return Err(RpcError::header_mismatch("MCP-Protocol-Version"));
        }
        match version {
            Some(MODERN) => {}
            Some(version) if !LEGACY.contains(&version) => return Err(RpcError::unsupported_version(version)),
            // Before 2025-06-18 there was no such header.
            Some(_) | None => return Ok(Era::Legacy),
        }
        // That revision does not define the headers of a notification.
        if !is_request {
            return Ok(Era::Modern);
        }
        if declared.is_none() || !meta[CLIENT_CAPABILITIES].is_object() {
            let members = format!("`_meta` must have {PROTOCOL_VERSION} and {CLIENT_CAPABILITIES}");
            return Err(RpcError::invalid_params(members));
        }
        if headers.method.as_deref() != Some(&*message.method) {
            return Err(RpcError::header_mismatch("Mcp-Method"));
        }
        if message.method == "tools/call" && headers.name.as_deref() != message.params["name"].as_str() {
            return Err(RpcError::header_mismatch("Mcp-Name"));
        }
        Ok(Era::Modern)
    }

    /// A result with the members that all results of this era have.
    pub fn complete(self, mut result: Value) -> Value {
        if self == Era::Modern {
            result["resultType"] = json!("complete");
            result["_meta"] = json!({ SERVER_INFO: server_info() });
        }
        result
    }

    /// A result that clients may cache for five minutes. Not `public`: a shared cache could serve that without a token.
    pub fn cacheable(self, mut result: Value) -> Value {
        if self == Era::Modern {
            result["ttlMs"] = json!(300_000);
            result["cacheScope"] = json!("private");
        }
        result
    }
}

pub fn server_info() -> Value {
    json!({ "name": "notes", "version": env!("CARGO_PKG_VERSION") })
}
