//! One call: fault, token, permission, then the verb.

use axum::body::{Body, to_bytes};
use axum::http::{Request, Response};
use serde_json::{Value, json};

use super::faults::{self, Harm};
use super::log::Call;
use super::path::Place;
use super::select::Selection;
use super::status::{Refused, answer as object_answer, refuse, throttle};
use super::store::{Store, StoreEvent};
use super::{ApiServer, State, apply, broken, evict, patch, table, watch};

/// `--max-request-bytes` of etcd is 1.5 MiB; the API server takes 3 MiB.
const MAX_BODY: usize = 3 << 20;
const MAX_OBJECT: usize = 1_572_864;

pub(super) async fn answer(server: ApiServer, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return refuse(&Refused::new(413, "RequestEntityTooLarge", "limit is 3145728"));
    };
    let Some(place) = Place::parse(parts.uri.path()) else {
        return match parts.uri.path() {
            "/readyz" | "/livez" => Response::new(Body::from("ok")),
            _ => refuse(&Refused::new(404, "NotFound", "the server could not find the requested resource")),
        };
    };
    let call = Call::of(&parts, &place, &body);
    let hook = server.shared.hook.lock().unwrap().clone();
    if let Some(hook) = hook {
        hook(&call);
    }
    let harm = {
        let mut state = server.state();
        state.log.push(call.clone());
        faults::strike(&mut state.faults, &call)
    };
    match harm {
        None => {}
        // An error from a body of which nothing was sent breaks the connection before its answer.
        Some(Harm::Cut) => return Response::new(Body::from_stream(tokio_stream::once(Err::<Vec<u8>, _>(broken())))),
        Some(Harm::Hang) => std::future::pending().await,
        Some(Harm::Slow(by)) => tokio::time::sleep(by).await,
        Some(Harm::Status(code)) => return refuse(&Refused::new(code, "InternalError", "broken by the test")),
        Some(Harm::Throttle(seconds)) => return throttle(seconds),
        // Without a socket this is polled by whoever asks.
        Some(Harm::Panic) => panic!("a fault of the agent, as the test has ordered"),
        Some(Harm::Garbage) => return Response::new(Body::from("<html>upstream unavailable</html>")),
    }
    decide(&server, &call, &place).unwrap_or_else(|refused| refuse(&refused))
}

fn decide(server: &ApiServer, call: &Call, place: &Place) -> Result<Response<Body>, Refused> {
    {
        let state = server.state();
        if state.tokens.as_ref().is_some_and(|good| !good(&call.token)) {
            return Err(Refused::new(401, "Unauthorized", "Unauthorized"));
        }
        if state.permission.as_ref().is_some_and(|permission| !permission(call)) {
            let message = format!("cannot {} resource {:?} in API group {:?}", call.verb, call.resource, call.group);
            return Err(Refused::new(403, "Forbidden", message));
        }
        if state.store.kind(place).is_none() {
            return Err(Refused::new(404, "NotFound", "the server could not find the requested resource"));
        }
    }
    if call.verb == "watch" {
        return watch::watch(server, call, place);
    }
    if place.plural == "selfsubjectaccessreviews" {
        return Ok(object_answer(201, &review(&server.state(), call)));
    }
    let mut state = server.state();
    let State { store, watches, .. } = &mut *state;
    let answered = act(store, call, place)?;
    answered.events.iter().for_each(|event| watches.tell(event));
    if call.accept.contains("as=Table") && call.verb == "list" {
        return Ok(object_answer(answered.code, &table::table(&answered.object, &place.plural)));
    }
    Ok(object_answer(answered.code, &watch::shape_all(&answered.object, watch::only_metadata(call))))
}

/// Says whether a call would be permitted (`authorization.k8s.io/v1`).
fn review(state: &State, call: &Call) -> Value {
    let asked = |field: &str| call.body["spec"]["resourceAttributes"][field].as_str().unwrap_or_default().to_owned();
    let verb =
        ["get", "list", "watch", "create", "update", "patch", "delete"].into_iter().find(|verb| *verb == asked("verb"));
    let slash = if asked("subresource").is_empty() { "" } else { "/" };
    let meant = Call {
        verb: verb.unwrap_or("other"),
        group: asked("group"),
        resource: format!("{}{slash}{}", asked("resource"), asked("subresource")),
        namespace: asked("namespace"),
        ..call.clone()
    };
    let allowed = state.permission.as_ref().is_none_or(|permission| permission(&meant));
    let mut answer = call.body.clone();
    answer["status"] = json!({"allowed": allowed});
    answer
}

struct Answered {
    code: u16,
    object: Value,
    events: Vec<StoreEvent>,
}

impl Answered {
    fn read(object: Value) -> Self {
        Self { code: 200, object, events: Vec::new() }
    }

    fn wrote(code: u16, event: StoreEvent) -> Self {
        Self { code, object: event.object.clone(), events: vec![event] }
    }
}

fn act(store: &mut Store, call: &Call, place: &Place) -> Result<Answered, Refused> {
    if serde_json::to_vec(&call.body).unwrap().len() > MAX_OBJECT {
        return Err(Refused::new(500, "InternalError", "etcdserver: request is too large"));
    }
    let object = Place { subresource: String::new(), ..place.clone() };
    let manager = manager(call);
    match call.verb {
        "list" => list(store, call, place),
        "get" => store.object(&object).cloned().map(Answered::read).ok_or_else(|| absent(place)),
        "create" if place.subresource == "eviction" => {
            let events = evict::evict(store, place)?;
            let done = json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "code": 201});
            Ok(Answered { code: 201, object: done, events })
        }
        "create" => {
            let name = call.body["metadata"]["name"].as_str().unwrap_or_default();
            if name.is_empty() {
                return Err(Refused::new(422, "Invalid", "metadata.name: Required value"));
            }
            let event = store.create(&place.named(name), call.body.clone(), &manager)?;
            Ok(Answered::wrote(201, event))
        }
        "apply" => apply_to(store, call, place),
        "update" => change(store, call, place, |object| {
            object.clone_from(&call.body);
            Ok(())
        }),
        "patch" => change(store, call, place, |object| patch::patch(object, &call.content_type, &call.body)),
        "delete" => {
            let wanted = &call.body["preconditions"];
            let metadata = store.object(&object).ok_or_else(|| absent(place))?["metadata"].clone();
            if ["uid", "resourceVersion"].iter().any(|of| !wanted[of].is_null() && wanted[of] != metadata[of]) {
                return Err(Refused::conflict(&place.plural, &place.name));
            }
            let event = store.remove(&object).ok_or_else(|| absent(place))?;
            Ok(Answered::wrote(200, event))
        }
        _ => Err(Refused::new(405, "MethodNotAllowed", "the server does not allow this method")),
    }
}

fn absent(place: &Place) -> Refused {
    Refused::not_found(&place.plural, &place.name)
}

/// `fieldManager`, else the first word of the user agent, as the API server does.
fn manager(call: &Call) -> String {
    let named = call.parameter("fieldManager");
    let agent = call.user_agent.split('/').next().unwrap_or_default();
    let manager = if named.is_empty() { agent } else { named };
    if call.resource.ends_with("/status") { format!("{manager} (status)") } else { manager.to_owned() }
}

fn list(store: &Store, call: &Call, place: &Place) -> Result<Answered, Refused> {
    let selection = Selection::of(call);
    let all: Vec<&Value> = store.list(place).into_iter().filter(|object| selection.takes(object)).collect();
    let (mut version, mut from) = (store.version(), 0);
    if let Some((at, offset)) = call.parameter("continue").split_once('-') {
        (version, from) = (at.parse().unwrap_or_default(), offset.parse().unwrap_or_default());
        store.since(version)?;
    }
    let limit = call.parameter("limit").parse().ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let page: Vec<&Value> = all.iter().skip(from).take(limit).copied().collect();
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if from + page.len() < all.len() {
        metadata["continue"] = format!("{version}-{}", from + page.len()).into();
        metadata["remainingItemCount"] = (all.len() - from - page.len()).into();
    }
    let kind = store.kind(place).unwrap_or_default();
    Ok(Answered::read(json!({
        "apiVersion": place.api_version(), "kind": format!("{kind}List"), "metadata": metadata, "items": page,
    })))
}

/// Changes a live object, or its status alone, or all but its status.
fn change(
    store: &mut Store,
    call: &Call,
    place: &Place,
    change: impl FnOnce(&mut Value) -> Result<(), Refused>,
) -> Result<Answered, Refused> {
    let object = Place { subresource: String::new(), ..place.clone() };
    let before = store.object(&object).cloned().ok_or_else(|| absent(place))?;
    let mut after = before.clone();
    change(&mut after)?;
    let (was, is) = (&before["metadata"], &after["metadata"]);
    let meant = is["resourceVersion"].as_str().unwrap_or_default();
    let stale = !meant.is_empty() && was["resourceVersion"] != meant;
    if stale || (is["uid"].is_string() && was["uid"] != is["uid"]) {
        return Err(Refused::conflict(&place.plural, &place.name));
    }
    let after = keep_other_half(&before, after, place);
    if after == before {
        return Ok(Answered::read(before));
    }
    Ok(Answered::wrote(200, store.replace(&object, &before, after, &manager(call))))
}

/// Of a write to the status only the status is taken, of one to the object everything else.
fn keep_other_half(before: &Value, after: Value, place: &Place) -> Value {
    let has_status = !["configmaps", "leases", "events", "noderesourcetopologies"].contains(&place.plural.as_str());
    let (mut kept, status) = match place.subresource.as_str() {
        "status" => (before.clone(), after["status"].clone()),
        _ if has_status => (after, before["status"].clone()),
        _ => return after,
    };
    if let Some(map) = kept.as_object_mut() {
        map.shift_remove("status");
        if !status.is_null() {
            map.insert("status".into(), status);
        }
    }
    kept
}

fn apply_to(store: &mut Store, call: &Call, place: &Place) -> Result<Answered, Refused> {
    if call.parameter("fieldManager").is_empty() {
        return Err(Refused::new(422, "Invalid", "fieldManager: Required value: is required for apply patch"));
    }
    let object = Place { subresource: String::new(), ..place.clone() };
    let kind = store.kind(place).unwrap_or_default();
    if call.body["apiVersion"] != place.api_version() || call.body["kind"] != kind {
        return Err(Refused::new(400, "BadRequest", "apiVersion and kind must be those of the object"));
    }
    if call.body["metadata"].get("managedFields").is_some() {
        return Err(Refused::new(400, "BadRequest", "metadata.managedFields must be nil"));
    }
    let manager = manager(call);
    let force = ["true", "1"].contains(&call.parameter("force"));
    let Some(before) = store.object(&object).cloned() else {
        if !place.subresource.is_empty() || call.body["metadata"]["uid"].is_string() {
            return Err(absent(place));
        }
        let mut body = call.body.clone();
        body["metadata"]["name"] = place.name.clone().into();
        return Ok(Answered::wrote(201, store.create(&object, body, &manager)?));
    };
    if !call.body["metadata"]["uid"].is_null() && call.body["metadata"]["uid"] != before["metadata"]["uid"] {
        return Err(Refused::conflict(&place.plural, &place.name));
    }
    let mut owners = store.owners(&object);
    let config = keep_other_half(&json!({}), call.body.clone(), place);
    let after = apply::apply(&before, &mut owners, &manager, &config, force)?;
    let mut after = keep_other_half(&before, after, place);
    after["metadata"] = {
        let mut metadata = after["metadata"].clone();
        for field in ["resourceVersion", "managedFields"] {
            metadata[field] = before["metadata"][field].clone();
        }
        metadata
    };
    if after == before && owners == store.owners(&object) {
        return Ok(Answered::read(before));
    }
    Ok(Answered::wrote(200, store.replace_owned(&object, &before, after, owners)))
}
