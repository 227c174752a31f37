//! The agent's own package keeps the rules of `buf lint` (STANDARD) and of `buf breaking`, without buf.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "a test reads and writes its golden file")]

use std::collections::BTreeSet;
use std::path::Path;

use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};
use trimtab_proto::node::v1alpha1::FILE_DESCRIPTOR_SET;

const FILE: &str = "trimtab/node/v1alpha1/node_state.proto";
const SOURCE: &str = include_str!("../trimtab/node/v1alpha1/node_state.proto");

fn file() -> FileDescriptorProto {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    set.file.into_iter().find(|file| file.name() == FILE).expect("the package is in its own descriptor set")
}

fn messages(file: &FileDescriptorProto) -> Vec<&DescriptorProto> {
    fn collect<'a>(message: &'a DescriptorProto, all: &mut Vec<&'a DescriptorProto>) {
        all.push(message);
        message.nested_type.iter().for_each(|nested| collect(nested, all));
    }
    let mut all = Vec::new();
    file.message_type.iter().for_each(|message| collect(message, &mut all));
    all
}

fn is_pascal(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(|c| c.is_ascii_alphanumeric())
}

fn is_lower_snake(name: &str) -> bool {
    let allowed = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    allowed && name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.ends_with('_') && !name.contains("__")
}

/// `ReportView` is `REPORT_VIEW`.
fn upper_snake(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_uppercase());
    }
    snake
}

#[test]
fn package_is_that_of_its_directory_and_bears_a_version() {
    let file = file();
    let (directory, name) = FILE.rsplit_once('/').unwrap();
    assert_eq!(file.package(), directory.replace('/', "."));
    let version = file.package().rsplit('.').next().unwrap();
    assert!(version.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())), "{version}");
    assert!(is_lower_snake(name.strip_suffix(".proto").unwrap()));
    assert_eq!(file.syntax(), "proto3");
}

#[test]
fn names_have_their_case() {
    let file = file();
    for message in messages(&file) {
        assert!(is_pascal(message.name()), "{}", message.name());
        for field in &message.field {
            assert!(is_lower_snake(field.name()), "{}.{}", message.name(), field.name());
        }
        for oneof in message.oneof_decl.iter().filter(|oneof| !oneof.name().starts_with('_')) {
            assert!(is_lower_snake(oneof.name()), "{}.{}", message.name(), oneof.name());
        }
    }
    for service in &file.service {
        assert!(is_pascal(service.name()));
        assert!(service.method.iter().all(|method| is_pascal(method.name())));
    }
    // The one exception to the rules: the name without `Service` is the published one.
    assert_eq!(file.service.iter().map(|service| service.name()).collect::<Vec<_>>(), ["NodeState"]);
}

#[test]
fn enum_values_bear_the_name_of_their_enum_and_begin_with_unspecified() {
    let file = file();
    let nested = messages(&file).into_iter().flat_map(|message| &message.enum_type);
    let all: Vec<&EnumDescriptorProto> = file.enum_type.iter().chain(nested).collect();
    assert!(!all.is_empty());
    for kind in all {
        let prefix = upper_snake(kind.name());
        assert_eq!(kind.value[0].name(), format!("{prefix}_UNSPECIFIED"));
        assert_eq!(kind.value[0].number(), 0, "{}", kind.name());
        assert!(!kind.options.as_ref().is_some_and(|options| options.allow_alias()), "{}", kind.name());
        for value in &kind.value {
            assert!(value.name().starts_with(&format!("{prefix}_")), "{}", value.name());
            assert_eq!(value.name(), value.name().to_ascii_uppercase());
        }
    }
}

#[test]
fn each_call_has_messages_of_its_own() {
    let file = file();
    let mut seen = BTreeSet::new();
    for method in file.service.iter().flat_map(|service| &service.method) {
        let own = |suffix: &str| format!(".{}.{}{suffix}", file.package(), method.name());
        assert_eq!((method.input_type(), method.output_type()), (&*own("Request"), &*own("Response")));
        assert!(seen.insert(method.input_type().to_owned()) && seen.insert(method.output_type().to_owned()));
        assert!(!method.client_streaming(), "{}", method.name());
    }
}

#[test]
fn everything_has_a_comment() {
    let mut before = "";
    let mut counted = 0;
    for (number, line) in SOURCE.lines().enumerate() {
        let text = line.trim();
        let declares = ["message ", "enum ", "service ", "rpc "].iter().any(|word| text.starts_with(word))
            || text.split_once(" = ").is_some_and(|(left, right)| {
                right.ends_with(';') && !left.starts_with("syntax") && right.starts_with(|c: char| c.is_ascii_digit())
            });
        if declares {
            counted += 1;
            assert!(before.starts_with("// ") && before.ends_with(['.', '…']), "line {}: {text}", number + 1);
        }
        before = text;
    }
    let file = file();
    let fields: usize = messages(&file).iter().map(|message| message.field.len() + 1).sum();
    let values: usize = file.enum_type.iter().map(|kind| kind.value.len() + 1).sum();
    let calls: usize = file.service.iter().map(|service| service.method.len() + 1).sum();
    assert_eq!(counted, fields + values + calls, "every declaration was looked at");
}

/// Whoever changes a line of the golden file breaks a client; new lines are no matter.
#[test]
fn numbers_and_types_stay_as_they_are() {
    let file = file();
    let mut lines = Vec::new();
    for message in messages(&file) {
        lines.extend(message.field.iter().map(|field| {
            let kind = if field.type_name().is_empty() {
                format!("{:?}", field.r#type())
            } else {
                field.type_name().to_owned()
            };
            format!("{}.{} = {} {:?} {kind}", message.name(), field.name(), field.number(), field.label())
        }));
    }
    for kind in &file.enum_type {
        lines.extend(kind.value.iter().map(|value| format!("{}.{} = {}", kind.name(), value.name(), value.number())));
    }
    for method in file.service.iter().flat_map(|service| &service.method) {
        let stream = if method.server_streaming() { "stream " } else { "" };
        lines.push(format!("rpc {}({}) {stream}{}", method.name(), method.input_type(), method.output_type()));
    }
    let text = lines.join("\n") + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/node_state.txt");
    if std::env::var_os("TRIMTAB_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "run the tests once with TRIMTAB_BLESS=1; lines may be added, none may change or go");
}
