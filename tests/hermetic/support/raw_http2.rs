//! A client of HTTP/2 that is written byte by byte, so that it may send what no library sends.

use std::collections::BTreeMap;
use std::path::Path;

use fluke_hpack::Decoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const PRIORITY: u8 = 0x20;

/// An empty gRPC message: not compressed, length 0.
pub(crate) const EMPTY_MESSAGE: &[u8] = &[0, 0, 0, 0, 0];

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A string without Huffman code (RFC 7541, section 5.2).
pub(crate) fn plain(text: &[u8]) -> Vec<u8> {
    let mut bytes = fluke_hpack::encoder::encode_integer(text.len(), 7);
    bytes.extend(text);
    bytes
}

/// A string in Huffman code (RFC 7541, appendix B), for the characters of paths and service names.
pub(crate) fn huffman(text: &str) -> Vec<u8> {
    let mut bits = String::new();
    for character in text.chars() {
        bits.push_str(code(character));
    }
    while !bits.len().is_multiple_of(8) {
        bits.push('1');
    }
    let coded: Vec<u8> =
        (0..bits.len() / 8).map(|byte| u8::from_str_radix(&bits[byte * 8..byte * 8 + 8], 2).unwrap()).collect();
    let mut bytes = fluke_hpack::encoder::encode_integer(coded.len(), 7);
    bytes[0] |= 0x80;
    bytes.extend(coded);
    bytes
}

fn code(character: char) -> &'static str {
    const CODES: [(char, &str); 52] = [
        ('%', "010101"),
        ('-', "010110"),
        ('.', "010111"),
        ('/', "011000"),
        ('0', "00000"),
        ('1', "00001"),
        ('2', "00010"),
        ('3', "011001"),
        ('4', "011010"),
        ('5', "011011"),
        ('6', "011100"),
        ('7', "011101"),
        ('8', "011110"),
        ('9', "011111"),
        ('A', "100001"),
        ('D', "1011111"),
        ('F', "1100001"),
        ('G', "1100010"),
        ('L', "1100111"),
        ('N', "1101001"),
        ('P', "1101011"),
        ('R', "1101101"),
        ('S', "1101110"),
        ('_', "100010"),
        ('a', "00011"),
        ('b', "100011"),
        ('c', "00100"),
        ('d', "100100"),
        ('e', "00101"),
        ('f', "100101"),
        ('g', "100110"),
        ('h', "100111"),
        ('i', "00110"),
        ('j', "1110100"),
        ('k', "1110101"),
        ('l', "101000"),
        ('m', "101001"),
        ('n', "101010"),
        ('o', "00111"),
        ('p', "101011"),
        ('q', "1110110"),
        ('r', "101100"),
        ('s', "01000"),
        ('t', "01001"),
        ('u', "101101"),
        ('v', "1110111"),
        ('w', "1111000"),
        ('x', "1111001"),
        ('y', "1111010"),
        ('z', "1111011"),
        (':', "1011100"),
        ('T', "1101111"),
    ];
    CODES.iter().find(|(known, _)| *known == character).unwrap_or_else(|| panic!("no code for {character:?}")).1
}

/// What came back on one stream.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Headers and trailers together.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) data: Vec<u8>,
    pub(crate) ended: bool,
    /// Code of RST_STREAM.
    pub(crate) reset: Option<u32>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// How a connection went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The server said so, with this code, or closed without a word.
    GoAway(u32),
    Closed,
}

pub(crate) struct RawClient {
    stream: UnixStream,
    decoder: Decoder<'static>,
    block: Vec<u8>,
    answers: BTreeMap<u32, Answer>,
    goaway: Option<u32>,
    /// Settings that the server announced.
    pub(crate) settings: BTreeMap<u16, u32>,
}

impl RawClient {
    pub(crate) async fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).await.unwrap();
        Self {
            stream,
            decoder: Decoder::new(),
            block: Vec::new(),
            answers: BTreeMap::new(),
            goaway: None,
            settings: BTreeMap::new(),
        }
    }

    /// Connects, and sends the preface with these settings.
    pub(crate) async fn begin(path: &Path, settings: &[u8]) -> Self {
        let mut client = Self::connect(path).await;
        client.send(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).await;
        client
    }

    /// A server that has closed is noticed when reading.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Reads until this stream has ended.
    pub(crate) async fn answer(&mut self, stream: u32) -> Answer {
        loop {
            if let Some(answer) = self.answers.get(&stream).filter(|answer| answer.ended) {
                return answer.clone();
            }
            assert!(self.read_frame().await, "closed before stream {stream} has ended, GOAWAY {:?}", self.goaway);
        }
    }

    /// Reads until the server closes.
    pub(crate) async fn end(&mut self) -> End {
        while self.read_frame().await {}
        self.goaway.map_or(End::Closed, End::GoAway)
    }

    /// False at the end of the connection.
    async fn read_frame(&mut self) -> bool {
        let mut head = [0; 9];
        if self.stream.read_exact(&mut head).await.is_err() {
            return false;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await.unwrap();
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match (head[3], head[4]) {
            (SETTINGS, 0) => {
                for setting in payload.chunks(6) {
                    let id = u16::from_be_bytes([setting[0], setting[1]]);
                    self.settings.insert(id, u32::from_be_bytes(setting[2..].try_into().unwrap()));
                }
                self.send(&frame(SETTINGS, 1, 0, b"")).await;
            }
            (GOAWAY, _) => self.goaway = Some(word(4)),
            (RST_STREAM, _) => {
                let code = word(0);
                let answer = self.answers.entry(stream).or_default();
                answer.reset = Some(code);
                answer.ended = true;
            }
            (DATA, flags) => {
                let answer = self.answers.entry(stream).or_default();
                answer.data.extend(&payload);
                answer.ended |= flags & END_STREAM != 0;
            }
            (HEADERS | CONTINUATION, flags) => self.take_block(stream, flags, &payload),
            _ => {}
        }
        true
    }

    fn take_block(&mut self, stream: u32, flags: u8, payload: &[u8]) {
        self.block.extend(payload);
        let answer = self.answers.entry(stream).or_default();
        if flags & END_HEADERS != 0 {
            for (name, value) in self.decoder.decode(&std::mem::take(&mut self.block)).unwrap() {
                answer.headers.insert(String::from_utf8(name).unwrap(), String::from_utf8(value).unwrap());
            }
        }
        answer.ended |= flags & END_STREAM != 0;
    }
}

/// Header block of a call as literals without indexing, which needs no table.
pub(crate) fn call_block(path: &str, authority: &str, further: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    let fields = [(":path", path), (":authority", authority), ("content-type", "application/grpc"), ("te", "trailers")];
    for (name, value) in fields.iter().chain(further) {
        block.push(0);
        block.extend(plain(name.as_bytes()));
        block.extend(plain(value.as_bytes()));
    }
    block
}

/// Frames of a unary call with this gRPC message.
pub(crate) fn call(stream: u32, block: &[u8], message: &[u8]) -> Vec<u8> {
    [frame(HEADERS, END_HEADERS, stream, block), frame(DATA, END_STREAM, stream, message)].concat()
}
