//! Clients that send the percent-encoded path of the socket as `:authority` are served, whoever wrote them.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use prost::Message;
use trimtab_proto::podresources::v1;

use crate::support::raw_http2::{
    Answer, CONTINUATION, DATA, EMPTY_MESSAGE, END_HEADERS, END_STREAM, End, HEADERS, PADDED, PRIORITY, RawClient,
    call, call_block, frame, huffman, plain,
};
use crate::support::server::{TestServer, within};

const LIST: &str = "/v1.PodResourcesLister/List";
const RAW_PATH: &str = "%2Fvar%2Flib%2Fkubelet%2Fpod-resources%2Fkubelet.sock";

/// The message of an answer that must be a success.
fn list_of(answer: &Answer) -> v1::ListPodResourcesResponse {
    assert_eq!(
        (answer.header(":status"), answer.header("grpc-status"), answer.reset),
        ("200", "0", None),
        "{answer:?}"
    );
    v1::ListPodResourcesResponse::decode(&answer.data[5..]).unwrap()
}

fn assert_is_whole_list(answer: &Answer) {
    let names: Vec<_> = list_of(answer).pod_resources.into_iter().map(|pod| pod.name).collect();
    assert_eq!(names, ["db", "shop"]);
}

#[test]
fn huffman_code_of_the_test_client_is_that_of_the_standard() {
    let expected = [0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
    assert_eq!(huffman("www.example.com"), expected, "RFC 7541, appendix C.4.1");
}

#[tokio::test]
async fn go_style_requests_are_served_over_one_connection() {
    let server = TestServer::start().await;
    let mut client = RawClient::begin(&server.socket(), b"").await;

    // As grpc-go encodes: Huffman code, everything entered into the table but the deadline.
    let mut first = vec![0x83, 0x86, 0x44];
    first.extend(huffman(LIST));
    first.push(0x41);
    first.extend(huffman(RAW_PATH));
    first.push(0x5f);
    first.extend(huffman("application/grpc"));
    first.push(0x7a);
    first.extend(huffman("grpc-go/1.79.0"));
    first.push(0x40);
    first.extend([huffman("te"), huffman("trailers")].concat());
    first.push(0x00);
    first.extend([plain(b"grpc-timeout"), plain(b"1999809u")].concat());
    client.send(&call(1, &first, EMPTY_MESSAGE)).await;
    assert_is_whole_list(&within(client.answer(1)).await);

    // te, user-agent, content-type, authority and path from the table, then one more entry that moves them all.
    let again = [0x83, 0x86, 0xc2, 0xc1, 0xc0, 0xbf, 0xbe];
    let mut third = again.to_vec();
    third.push(0x40);
    third.extend([plain(b"x-new"), plain(b"entry")].concat());
    let moved = [0x83, 0x86, 0xc3, 0xc2, 0xc1, 0xc0, 0xbf];
    for (stream, block) in [(3, again.to_vec()), (5, third), (7, moved.to_vec())] {
        client.send(&call(stream, &block, EMPTY_MESSAGE)).await;
        assert_is_whole_list(&within(client.answer(stream)).await);
    }

    // The table is emptied and grown again, then filled anew.
    let mut emptied = vec![0x20, 0x3f, 0xe1, 0x1f];
    emptied.extend(&first);
    client.send(&call(9, &emptied, EMPTY_MESSAGE)).await;
    assert_is_whole_list(&within(client.answer(9)).await);
    client.send(&call(11, &again, EMPTY_MESSAGE)).await;
    assert_is_whole_list(&within(client.answer(11)).await);
    drop(client);
    server.shut_down().await;
}

#[tokio::test]
async fn trailers_keep_the_table_in_step() {
    let server = TestServer::start().await;
    let mut client = RawClient::begin(&server.socket(), b"").await;
    let mut trailers = vec![0x40];
    trailers.extend([plain(b"x-sum"), plain(b"1")].concat());
    let mut first = call_block(LIST, RAW_PATH, &[]);
    first.push(0x40);
    first.extend([plain(b"x-first"), plain(b"2")].concat());
    client
        .send(
            &[
                frame(HEADERS, END_HEADERS, 1, &first),
                frame(DATA, 0, 1, EMPTY_MESSAGE),
                frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailers),
            ]
            .concat(),
        )
        .await;
    assert_is_whole_list(&within(client.answer(1)).await);

    let mut second = call_block(LIST, RAW_PATH, &[]);
    second.extend([0xbe, 0xbf]);
    client.send(&call(3, &second, EMPTY_MESSAGE)).await;
    assert_is_whole_list(&within(client.answer(3)).await);
    drop(client);
    server.shut_down().await;
}

#[tokio::test]
async fn padded_prioritised_and_continued_headers_are_served() {
    let server = TestServer::start().await;
    let mut client = RawClient::begin(&server.socket(), b"").await;
    let block = call_block(LIST, RAW_PATH, &[]);
    let (a, rest) = block.split_at(9);
    let (b, c) = rest.split_at(20);
    let mut head = vec![7, 0, 0, 0, 0, 15];
    head.extend(a);
    head.extend([0; 7]);
    let mut padded_data = vec![3];
    padded_data.extend(EMPTY_MESSAGE);
    padded_data.extend([0; 3]);
    client
        .send(
            &[
                frame(HEADERS, PADDED | PRIORITY, 1, &head),
                frame(CONTINUATION, 0, 1, b),
                frame(CONTINUATION, 0, 1, b""),
                frame(CONTINUATION, END_HEADERS, 1, c),
                frame(DATA, PADDED | END_STREAM, 1, &padded_data),
            ]
            .concat(),
        )
        .await;
    assert_is_whole_list(&within(client.answer(1)).await);
    drop(client);
    server.shut_down().await;
}

#[tokio::test]
async fn request_that_comes_byte_by_byte_is_served() {
    let server = TestServer::start().await;
    let mut client = RawClient::begin(&server.socket(), b"").await;
    for byte in call(1, &call_block(LIST, RAW_PATH, &[]), EMPTY_MESSAGE) {
        client.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_is_whole_list(&within(client.answer(1)).await);
    drop(client);
    server.shut_down().await;
}

#[tokio::test]
async fn clients_table_size_is_for_the_servers_encoder_alone() {
    let server = TestServer::start().await;
    // SETTINGS_HEADER_TABLE_SIZE 0: the server may use no table towards this client.
    let mut client = RawClient::begin(&server.socket(), &[0, 1, 0, 0, 0, 0]).await;
    for stream in [1, 3, 5] {
        client.send(&call(stream, &call_block(LIST, RAW_PATH, &[]), EMPTY_MESSAGE)).await;
        assert_is_whole_list(&within(client.answer(stream)).await);
    }
    assert!(!client.settings.contains_key(&1), "the server keeps the default size that the rewriter counts on");
    assert!(!client.settings.contains_key(&5) || client.settings[&5] == 16_384, "and the default frame size");
    drop(client);
    server.shut_down().await;
}

#[tokio::test]
async fn every_form_of_authority_is_served() {
    let server = TestServer::start().await;
    let mut client = RawClient::begin(&server.socket(), b"").await;
    let forms = [RAW_PATH, "localhost", "/run/trimtab.sock", "unix:///run/trimtab.sock", "", "node:9", "a b", "%00"];
    for (number, authority) in forms.into_iter().enumerate() {
        let stream = u32::try_from(number).unwrap() * 2 + 1;
        client.send(&call(stream, &call_block(LIST, authority, &[]), EMPTY_MESSAGE)).await;
        let answer = within(client.answer(stream)).await;
        assert_eq!(answer.header("grpc-status"), "0", "{authority:?}: {answer:?}");
    }
    drop(client);
    server.shut_down().await;
}

#[tokio::test]
async fn malformed_connections_are_closed_and_counted_and_others_go_on() {
    let server = TestServer::start().await;
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("undecodable block", frame(HEADERS, END_HEADERS, 1, &[0x80])),
        ("CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1, &[0x82])),
        ("push", frame(5, END_HEADERS, 1, &[0, 0, 0, 2, 0x82])),
        ("size update cut short", frame(HEADERS, END_HEADERS, 1, &[0x3f])),
    ];
    let mut other = RawClient::begin(&server.socket(), b"").await;
    for (number, (name, bytes)) in rows.into_iter().enumerate() {
        let mut client = RawClient::begin(&server.socket(), b"").await;
        client.send(&bytes).await;
        let end = within(client.end()).await;
        assert!(matches!(end, End::Closed | End::GoAway(_)), "{name}");
        let counted = server.metric("trimtab_grpc_connections_closed_total{reason=\"malformed\"}");
        assert_eq!(counted, (number + 1) as f64, "{name}");
        let stream = u32::try_from(number).unwrap() * 2 + 1;
        other.send(&call(stream, &call_block(LIST, RAW_PATH, &[]), EMPTY_MESSAGE)).await;
        assert_is_whole_list(&within(other.answer(stream)).await);
    }
    drop(other);
    server.shut_down().await;
}

/// A Python that has grpcio and protobuf (Debian and Ubuntu: packages python3-grpcio and python3-protobuf).
async fn python_with_grpcio() -> Option<PathBuf> {
    for python in ["/usr/bin/python3", "python3"] {
        let status = tokio::process::Command::new(python)
            .args(["-c", "import grpc, google.protobuf"])
            .stderr(Stdio::null())
            .status()
            .await;
        if status.is_ok_and(|status| status.success()) {
            return Some(python.into());
        }
    }
    None
}

/// Asks with the C core of gRPC, which also serves C++, Ruby and PHP.
async fn ask_with_python(python: &Path, script: &str, socket: &Path, argument: &str) -> Vec<String> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/hermetic/authority");
    let output = tokio::process::Command::new(python)
        .arg(scripts.join(script))
        .arg(socket)
        .arg(argument)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(60), output).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// That Python; `None`: the test is skipped.
async fn python() -> Option<PathBuf> {
    let python = python_with_grpcio().await;
    if python.is_none() {
        assert!(std::env::var_os("CI").is_none(), "install python3-grpcio: under CI this test must run");
        eprintln!("skipped: no python3 with grpcio on this machine");
    }
    python
}

#[tokio::test]
async fn python_client_with_messages_told_by_reflection_is_served() {
    let Some(python) = python().await else { return };
    let server = TestServer::start().await;
    let expected = "\
        Services v1.PodResourcesLister v1alpha1.PodResourcesLister\n\
        List data db exporter [] [('memory', 1048576, [0, 1])]\n\
        List data db server [2, 3] [('memory', 1073741824, [0])]\n\
        List web shop app [] []\n\
        Get is as listed: True\n\
        Allocatable [1, 2, 3] [7516192768, 8589934592]\n\
        v1alpha1 db shop";
    for version in ["v1", "v1alpha"] {
        let lines = ask_with_python(&python, "reflected.py", &server.socket(), version).await;
        assert_eq!(lines.join("\n"), expected, "reflection {version}");
    }
    server.shut_down().await;
}

#[tokio::test]
async fn python_client_with_a_raw_path_is_served() {
    let Some(python) = python().await else { return };
    let server = TestServer::start().await;
    let socket = server.socket();
    let expected =
        "List db,shop\nAllocatable 3 CPUs\nGet db\nGet absent: UNKNOWN pod absent in namespace data not found";
    for authority in ["percent-encoded", "localhost"] {
        let lines = ask_with_python(&python, "client.py", &socket, authority).await;
        assert_eq!(lines.join("\n"), expected, "authority {authority}");
    }
    server.shut_down().await;
}
