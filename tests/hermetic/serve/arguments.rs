//! Calls that are wrong, each with its stated answer; none changes anything, and the next good call is served.

use prost::Message;
use trimtab_proto::podresources::v1;

use crate::support::raw_http2::{
    Answer, DATA, EMPTY_MESSAGE, END_HEADERS, END_STREAM, End, HEADERS, RawClient, SETTINGS, call, call_block, frame,
    plain,
};
use crate::support::server::{TestServer, within};

const LIST: &str = "/v1.PodResourcesLister/List";
const GET: &str = "/v1.PodResourcesLister/Get";
const REPORT: &str = "/trimtab.node.v1alpha1.NodeState/GetReport";
const CHECK: &str = "/grpc.health.v1.Health/Check";

/// What an answer must be: HTTP status, gRPC code (none: empty), and a part of its text.
type Stated = (&'static str, &'static str, &'static str);

fn good(path: &str) -> Vec<u8> {
    call_block(path, "localhost", &[])
}

/// A call whose fields are given one by one.
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        block.extend([plain(name.as_bytes()), plain(value.as_bytes())].concat());
    }
    block
}

fn message(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), bytes].concat()
}

fn stated(answer: &Answer) -> (String, String, String) {
    let text = answer.header("grpc-message").replace("%20", " ");
    (answer.header(":status").to_owned(), answer.header("grpc-status").to_owned(), text)
}

fn get_request(name: &str, namespace: &str) -> Vec<u8> {
    let request = v1::GetPodResourcesRequest { pod_name: name.into(), pod_namespace: namespace.into() };
    message(&request.encode_to_vec())
}

#[expect(clippy::too_many_lines, reason = "one table")]
fn rows() -> Vec<(&'static str, Vec<u8>, Vec<u8>, Stated)> {
    let grpc = ("content-type", "application/grpc");
    let http = (":scheme", "http");
    let host = (":authority", "localhost");
    let ok = EMPTY_MESSAGE.to_vec();
    let huge = vec![0, 0, 1, 0, 1];
    let long_body = message(&vec![0; 70_000]);
    vec![
        (
            "unknown method",
            good("/v1.PodResourcesLister/Watch"),
            ok.clone(),
            ("200", "12", "unknown method Watch for service v1.PodResourcesLister"),
        ),
        (
            "unknown service",
            good("/v2.PodResourcesLister/List"),
            ok.clone(),
            ("200", "12", "unknown service v2.PodResourcesLister"),
        ),
        (
            "method of another version",
            good("/v1alpha1.PodResourcesLister/Get"),
            ok.clone(),
            ("200", "12", "unknown method Get for service v1alpha1.PodResourcesLister"),
        ),
        ("no service", good("/"), ok.clone(), ("200", "12", "unknown service")),
        ("path that climbs", good("/v1.PodResourcesLister/../List"), ok.clone(), ("200", "12", "unknown service")),
        (
            "missing pod",
            good(GET),
            get_request("absent", "data"),
            ("200", "2", "pod absent in namespace data not found"),
        ),
        ("empty names", good(GET), ok.clone(), ("200", "2", "pod  in namespace  not found")),
        (
            "name with line breaks",
            good(GET),
            get_request("a\nb", "n"),
            ("200", "2", "pod a%0Ab in namespace n not found"),
        ),
        (
            "name that is not UTF-8",
            good(GET),
            message(&[0x0a, 2, 0xff, 0xfe]),
            ("200", "13", "cannot decode the request"),
        ),
        ("garbage instead of a message", good(LIST), message(&[0xff; 12]), ("200", "13", "cannot decode the request")),
        ("wrong type of field", good(GET), message(&[0x08, 1]), ("200", "13", "cannot decode the request")),
        ("no message", good(LIST), vec![], ("200", "13", "no message was sent")),
        ("message cut short", good(LIST), vec![0, 0, 0, 0, 9, 1], ("200", "13", "the length in front of the message")),
        ("length cut short", good(LIST), vec![0, 0, 0], ("200", "13", "the message has no length")),
        (
            "two messages",
            good(LIST),
            [EMPTY_MESSAGE, EMPTY_MESSAGE].concat(),
            ("200", "13", "the length in front of the message"),
        ),
        (
            "announced larger than the limit",
            good(LIST),
            huge,
            ("200", "8", "grpc: received message larger than max (65537 vs. 65536)"),
        ),
        (
            "larger than the limit",
            good(LIST),
            long_body.clone(),
            ("200", "8", "grpc: received message larger than max (70000 vs. 65536)"),
        ),
        (
            "larger than the limit of NodeState",
            good(REPORT),
            long_body,
            ("200", "8", "grpc: received message larger than max (70000 vs. 65536)"),
        ),
        ("compressed", good(LIST), vec![1, 0, 0, 0, 0], ("200", "12", "compressed requests are not supported")),
        ("garbage for NodeState", good(REPORT), message(&[0xff; 12]), ("200", "13", "")),
        ("unknown service for health", good(CHECK), message(&[0x0a, 1, b'x']), ("200", "5", "unknown service x")),
        (
            "wrong content type",
            fields(&[(":method", "POST"), http, (":path", LIST), host, ("content-type", "application/json")]),
            ok.clone(),
            ("415", "", ""),
        ),
        ("no content type", fields(&[(":method", "POST"), http, (":path", LIST), host]), ok.clone(), ("415", "", "")),
        (
            "content type of grpc-web",
            fields(&[(":method", "POST"), http, (":path", LIST), host, ("content-type", "application/grpc-web")]),
            ok.clone(),
            ("415", "", ""),
        ),
        ("GET", fields(&[(":method", "GET"), http, (":path", LIST), host, grpc]), ok, ("405", "", "")),
    ]
}

#[tokio::test]
async fn wrong_calls_have_their_stated_answers() {
    let server = TestServer::start().await;
    let mut client = RawClient::begin(&server.socket(), b"").await;
    let mut stream = 1;
    for (name, block, body, (status, code, text)) in rows() {
        client.send(&frame(HEADERS, END_HEADERS, stream, &block)).await;
        for (number, part) in body.chunks(16_000).enumerate() {
            let end = if (number + 1) * 16_000 >= body.len() { END_STREAM } else { 0 };
            client.send(&frame(DATA, end, stream, part)).await;
        }
        if body.is_empty() {
            client.send(&frame(DATA, END_STREAM, stream, b"")).await;
        }
        let answer = within(client.answer(stream)).await;
        let found = stated(&answer);
        assert_eq!((found.0.as_str(), found.1.as_str()), (status, code), "{name}: {answer:?}");
        assert!(found.2.contains(text), "{name}: {:?} does not say {text:?}", found.2);
        assert!(answer.data.is_empty(), "{name}");

        client.send(&call(stream + 2, &good(LIST), EMPTY_MESSAGE)).await;
        assert_eq!(within(client.answer(stream + 2)).await.header("grpc-status"), "0", "after {name}");
        stream += 4;
    }
    drop(client);
    server.shut_down().await;
}

#[tokio::test]
async fn wrong_headers_end_the_call_or_the_connection() {
    let server = TestServer::start().await;
    let long = "x".repeat(20_000);
    let mut client = RawClient::begin(&server.socket(), b"").await;
    let block = call_block(LIST, "localhost", &[("x-long", &long)]);
    let (first, rest) = block.split_at(16_000);
    client.send(&frame(HEADERS, END_STREAM, 1, first)).await;
    client.send(&frame(9, END_HEADERS, 1, rest)).await;
    assert_eq!(within(client.answer(1)).await.header(":status"), "431", "headers beyond 16 KiB");

    let of_http_1 = call_block(LIST, "localhost", &[("connection", "close")]);
    client.send(&call(3, &of_http_1, EMPTY_MESSAGE)).await;
    assert_eq!(within(client.answer(3)).await.reset, Some(1), "PROTOCOL_ERROR for a header of HTTP/1");
    let no_path = fields(&[(":method", "POST"), (":scheme", "http"), ("content-type", "application/grpc")]);
    client.send(&call(7, &no_path, EMPTY_MESSAGE)).await;
    let answer = within(client.answer(7)).await;
    assert_eq!((answer.header(":status"), answer.header("grpc-status")), ("200", "12"), "no path: {answer:?}");
    client.send(&call(9, &good(LIST), EMPTY_MESSAGE)).await;
    assert_eq!(within(client.answer(9)).await.header("grpc-status"), "0");

    let mut connection_ends: Vec<(&str, Vec<u8>, &[End])> = Vec::new();
    let preface = crate::support::raw_http2::PREFACE;
    connection_ends.push((
        "HTTP/1",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        &[End::Closed, End::GoAway(1)],
    ));
    connection_ends.push((
        "TLS",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        &[End::Closed, End::GoAway(1)],
    ));
    let too_large = [preface, &frame(SETTINGS, 0, 0, b""), &frame(DATA, 0, 1, &vec![0; 16_385])].concat();
    connection_ends.push(("frame beyond the limit", too_large, &[End::GoAway(6)]));
    let no_settings = [preface, &frame(DATA, 0, 1, b"x")].concat();
    connection_ends.push(("no SETTINGS", no_settings, &[End::GoAway(1)]));
    let upper_case = call_block(LIST, "localhost", &[("X-Upper", "y")]);
    let upper_case = [preface, &frame(SETTINGS, 0, 0, b""), &frame(HEADERS, END_HEADERS, 1, &upper_case)].concat();
    connection_ends.push(("name in upper case", upper_case, &[End::GoAway(1)]));
    let huge_block = [
        preface.to_vec(),
        frame(SETTINGS, 0, 0, b""),
        frame(HEADERS, 0, 1, &[0; 16_000]),
        frame(9, 0, 1, &[0; 16_000]),
        frame(9, 0, 1, &[0; 16_000]),
    ]
    .concat();
    connection_ends.push(("header block beyond 32 KiB", huge_block, &[End::Closed]));
    for (name, bytes, allowed) in connection_ends {
        let mut wrong = RawClient::connect(&server.socket()).await;
        wrong.send(&bytes).await;
        let end = within(wrong.end()).await;
        assert!(allowed.contains(&end), "{name}: {end:?}");
    }
    client.send(&call(11, &good(LIST), EMPTY_MESSAGE)).await;
    assert_eq!(within(client.answer(11)).await.header("grpc-status"), "0", "others are not disturbed");
    drop(client);
    server.shut_down().await;
}

#[tokio::test]
async fn deadline_units_are_all_understood() {
    let server = TestServer::start().await;
    let mut client = RawClient::begin(&server.socket(), b"").await;
    for (number, timeout) in ["1999809u", "900000000n", "5000m", "5S", "1M", "1H"].into_iter().enumerate() {
        let stream = u32::try_from(number).unwrap() * 2 + 1;
        let block = call_block(LIST, "localhost", &[("grpc-timeout", timeout)]);
        client.send(&call(stream, &block, EMPTY_MESSAGE)).await;
        assert_eq!(within(client.answer(stream)).await.header("grpc-status"), "0", "{timeout}");
    }
    drop(client);
    server.shut_down().await;
}
