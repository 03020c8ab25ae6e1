//! Which request is which operation, and its parts as the machine wants them.

use actix_web::http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use sls_syslog_actors::loghub::{
    At, CheckpointView, From, GroupSettings, Pull, PullAnswer, Refusal, Route, ShardView, SplitAt,
};
use sls_syslog_actors::model::ids::ShardId;
use sls_syslog_actors::wire::sls::reply::Compression;

use super::fault::Target;
use super::request::{Request, hash_key, shard};
use super::serve::Service;

/// What is answered with status 200.
pub enum Success {
    /// Nothing.
    Empty,
    /// JSON.
    Json(Value),
    /// Log groups, in this compression.
    Pull(PullAnswer, Compression),
}

impl Request {
    fn path(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }

    /// What the request is, as far as faults care.
    pub fn target(&self) -> Target {
        match (self.path().as_slice(), self.parameter("type")) {
            (["logstores", _, "shards", _], Some("log" | "logs")) => Target::Pull,
            (["logstores", _, "consumergroups", _], Some("heartbeat")) => Target::Heartbeat,
            (["logstores", _, "consumergroups", _], Some("checkpoint")) => Target::Commit,
            _ => Target::Other,
        }
    }
}

/// Carries out a request.
pub fn dispatch(service: &Service, request: &Request) -> Result<Success, Refusal> {
    let project = request.project.as_str();
    let path = request.path();
    let unknown = || {
        let message = format!("invalid request method : /{}", request.segments.join("/"));
        Refusal::new(405, "InvalidMethod", message)
    };
    match (&request.method, path.as_slice()) {
        (&Method::GET, []) => get_project(service, project),
        (&Method::GET, ["logstores"]) => list_logstores(service, request),
        (&Method::POST, ["logstores"]) => create_logstore(service, request),
        (method, ["logstores", logstore, rest @ ..]) => {
            let at = At { project, logstore };
            match (method, rest) {
                (&Method::GET, []) => get_logstore(service, at),
                (&Method::DELETE, []) => service.with(|hub, _| hub.delete_logstore(at)).map(|()| Success::Empty),
                (&Method::POST, [] | ["shards", "lb"]) => put(service, at, request, Route::Balanced),
                (&Method::POST, ["shards", "route"]) => {
                    let key = hash_key(request.parameter("key").unwrap_or_default())?;
                    put(service, at, request, Route::Key(key))
                }
                (&Method::GET, ["shards"]) => {
                    Ok(Success::Json(shards(service.with(|hub, now| hub.list_shards(at, now))?)))
                }
                (&Method::POST, ["shards", id]) => change_shard(service, at, request, shard(id)?),
                (&Method::GET | &Method::HEAD, ["shards", id]) => read_shard(service, at, request, shard(id)?),
                (&Method::GET, ["consumergroups"]) => list_groups(service, at),
                (&Method::POST, ["consumergroups"]) => create_group(service, at, request),
                (&Method::GET, ["consumergroups", group]) => get_checkpoints(service, at, group, request),
                (&Method::PUT, ["consumergroups", group]) => update_group(service, at, group, request),
                (&Method::DELETE, ["consumergroups", group]) => {
                    service.with(|hub, now| hub.delete_group(at, group, now)).map(|()| Success::Empty)
                }
                (&Method::POST, ["consumergroups", group]) => match request.parameter("type") {
                    Some("heartbeat") => heartbeat(service, at, group, request),
                    Some("checkpoint") => update_checkpoint(service, at, group, request),
                    _ => Err(Refusal::parameter("Parameter type is not valid".into())),
                },
                _ => Err(unknown()),
            }
        }
        _ => Err(unknown()),
    }
}

fn get_project(service: &Service, project: &str) -> Result<Success, Refusal> {
    service.with(|hub, _| hub.get_project(project))?;
    let created = service.unix_s().to_string();
    Ok(Success::Json(json!({
        "projectName": project, "description": "", "status": "Normal", "owner": "", "region": "",
        "createTime": created, "lastModifyTime": created,
    })))
}

fn list_logstores(service: &Service, request: &Request) -> Result<Success, Refusal> {
    let number = |name, default| match request.parameter(name) {
        None => Ok(default),
        Some(_) => request.required::<usize>(name),
    };
    let (offset, size) = (number("offset", 0)?, number("size", 500)?);
    let wanted = request.parameter("logstoreName").unwrap_or_default();
    let names = service.with(|hub, _| hub.list_logstores(&request.project, wanted))?;
    let page: Vec<_> = names.iter().skip(offset).take(size).collect();
    Ok(Success::Json(json!({"count": page.len(), "total": names.len(), "logstores": page})))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateLogstore {
    logstore_name: String,
    shard_count: u32,
}

fn create_logstore(service: &Service, request: &Request) -> Result<Success, Refusal> {
    let body: CreateLogstore = request.json("logstoreName or shardCount")?;
    let at = At { project: &request.project, logstore: &body.logstore_name };
    service.with(|hub, now| hub.create_logstore(at, body.shard_count, now)).map(|()| Success::Empty)
}

fn get_logstore(service: &Service, at: At<'_>) -> Result<Success, Refusal> {
    let (created, shards, ttl) = service.with(|hub, _| {
        let (created, shards) = hub.get_logstore(at)?;
        Ok::<_, Refusal>((created.seconds(), shards, hub.ttl_days()))
    })?;
    Ok(Success::Json(json!({
        "logstoreName": at.logstore, "ttl": ttl, "shardCount": shards, "enable_tracking": false,
        "autoSplit": false, "maxSplitShard": 64, "appendMeta": false, "telemetryType": "", "hot_ttl": ttl,
        "mode": "standard", "createTime": created, "lastModifyTime": created,
    })))
}

fn put(service: &Service, at: At<'_>, request: &Request, route: Route) -> Result<Success, Refusal> {
    let group = request.put_body(service.put_bytes())?;
    service.with(|hub, now| hub.put(at, route, group, now)).map(|_| Success::Empty)
}

fn change_shard(service: &Service, at: At<'_>, request: &Request, id: ShardId) -> Result<Success, Refusal> {
    let views = match request.parameter("action") {
        Some("split") => {
            let split = match (request.parameter("key"), request.parameter("shardCount")) {
                (Some(key), _) if !key.is_empty() => SplitAt::Key(hash_key(key)?),
                (_, Some(_)) => SplitAt::Parts(request.required("shardCount")?),
                _ => return Err(Refusal::parameter("invalid mid hash".into())),
            };
            service.with(|hub, now| hub.split_shard(at, id, split, now))?
        }
        Some("merge") => service.with(|hub, now| hub.merge_shards(at, id, now))?,
        _ => return Err(Refusal::parameter("Parameter action is not valid".into())),
    };
    Ok(Success::Json(shards(views)))
}

fn shards(views: Vec<ShardView>) -> Value {
    let view = |view: ShardView| {
        json!({
            "shardID": view.shard.0, "status": if view.readonly { "readonly" } else { "readwrite" },
            "inclusiveBeginKey": format!("{:032x}", view.begin_key),
            "exclusiveEndKey": format!("{:032x}", view.end_key),
            "createTime": view.created.seconds(),
        })
    };
    views.into_iter().map(view).collect()
}

fn read_shard(service: &Service, at: At<'_>, request: &Request, id: ShardId) -> Result<Success, Refusal> {
    match request.parameter("type") {
        Some("cursor") => {
            let from = match request.parameter("from") {
                Some("begin") => From::Begin,
                Some("end") => From::End,
                other => {
                    let bad = || Refusal::parameter("Parameter From is not valid".into());
                    From::UnixSeconds(other.and_then(|text| text.parse().ok()).ok_or_else(bad)?)
                }
            };
            let cursor = service.with(|hub, now| hub.get_cursor(at, id, from, now))?;
            Ok(Success::Json(json!({"cursor": cursor})))
        }
        Some("cursor_time") => {
            let cursor = request.parameter("cursor").unwrap_or_default();
            let time = service.with(|hub, now| hub.get_cursor_time(at, id, cursor, now))?;
            Ok(Success::Json(json!({"cursor_time": time})))
        }
        Some("log" | "logs") => pull(service, at, request, id),
        _ => Err(Refusal::parameter("Parameter type is not valid".into())),
    }
}

fn pull(service: &Service, at: At<'_>, request: &Request, id: ShardId) -> Result<Success, Refusal> {
    // There is no query engine: only the query that keeps everything is one.
    if let Some(query) = request.parameter("query").map(str::trim)
        && !matches!(query, "" | "*")
    {
        return Err(Refusal::parameter("query is not supported here".into()));
    }
    if request.parameter("processor").is_some_and(|name| !name.is_empty()) {
        return Err(Refusal::parameter("processor is not supported here".into()));
    }
    let compression = request.accepted_compression();
    let pull = Pull {
        cursor: request.parameter("cursor").unwrap_or_default(),
        end_cursor: request
            .parameter("end_cursor")
            .or_else(|| request.parameter("endCursor"))
            .filter(|cursor| !cursor.is_empty()),
        count: request.required("count")?,
        compression,
    };
    let answer = service.with(|hub, now| hub.pull(at, id, &pull, now))?;
    Ok(Success::Pull(answer, compression))
}

fn list_groups(service: &Service, at: At<'_>) -> Result<Success, Refusal> {
    let groups = service.with(|hub, _| hub.list_groups(at))?;
    let group = |(name, settings): (String, GroupSettings)| json!({"name": name, "timeout": settings.timeout_s, "order": settings.order});
    Ok(Success::Json(groups.into_iter().map(group).collect()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateGroup {
    consumer_group: String,
    timeout: u32,
    #[serde(default)]
    order: bool,
}

fn create_group(service: &Service, at: At<'_>, request: &Request) -> Result<Success, Refusal> {
    let body: CreateGroup = request.json("consumerGroup or timeout")?;
    let settings = GroupSettings { timeout_s: body.timeout, order: body.order };
    service.with(|hub, now| hub.create_group(at, &body.consumer_group, settings, now)).map(|()| Success::Empty)
}

#[derive(Deserialize)]
struct UpdateGroup {
    timeout: Option<u32>,
    order: Option<bool>,
}

fn update_group(service: &Service, at: At<'_>, group: &str, request: &Request) -> Result<Success, Refusal> {
    let body: UpdateGroup = request.json("order or timeout")?;
    service.with(|hub, now| hub.update_group(at, group, body.timeout, body.order, now)).map(|()| Success::Empty)
}

fn get_checkpoints(service: &Service, at: At<'_>, group: &str, request: &Request) -> Result<Success, Refusal> {
    let id = request.parameter("shard").map(shard).transpose()?;
    let views = service.with(|hub, now| hub.get_checkpoints(at, group, id, now))?;
    let view = |view: CheckpointView| {
        json!({
            "shard": view.shard.0, "checkpoint": view.checkpoint, "updateTime": view.updated.0,
            "consumer": view.consumer,
        })
    };
    Ok(Success::Json(views.into_iter().map(view).collect()))
}

fn heartbeat(service: &Service, at: At<'_>, group: &str, request: &Request) -> Result<Success, Refusal> {
    let held: Vec<ShardId> = request.json("the list of shards")?;
    let consumer = request.parameter("consumer").unwrap_or_default();
    let owned = service.with(|hub, now| hub.heartbeat(at, group, consumer, &held, now))?;
    Ok(Success::Json(json!(owned)))
}

#[derive(Deserialize)]
struct UpdateCheckpoint<'a> {
    shard: ShardId,
    #[serde(borrow)]
    checkpoint: std::borrow::Cow<'a, str>,
}

fn update_checkpoint(service: &Service, at: At<'_>, group: &str, request: &Request) -> Result<Success, Refusal> {
    let body: UpdateCheckpoint<'_> = request.json("shard or checkpoint")?;
    let consumer = request.parameter("consumer").unwrap_or_default();
    let force = match request.parameter("forceSuccess") {
        Some(text) => text.eq_ignore_ascii_case("true"),
        None => false,
    };
    let force = force || consumer.is_empty();
    service
        .with(|hub, now| hub.update_checkpoint(at, group, consumer, body.shard, &body.checkpoint, force, now))
        .map(|()| Success::Empty)
}
