//! The reference of the API, made from the protos with their comments.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, ServiceDescriptorProto,
};

/// The protos that are served, and what to know of each beforehand.
const SERVED: [(&str, &str); 3] = [
    (
        "trimtab/node/v1alpha1/node_state.proto",
        "Everything that the agent knows about its node. `trimtab status`, `pods` and `topology` print what it answers.",
    ),
    (
        "podresources/v1/podresources.proto",
        "The kubelet's own interface, for clients that were made for it: numbers and types of all fields are the kubelet's.",
    ),
    ("podresources/v1alpha1/podresources.proto", "The first version of the same, for clients that never moved on."),
];

const HEAD: &str = "# API reference

What the agent answers on its unix socket (`--socket`, by default `/run/trimtab/trimtab.sock`), besides
`grpc.health.v1.Health` and reflection. Made from the files below [proto](../proto) by the tests; run them with
`TRIMTAB_BLESS=1` after a change. Recipes are in [ask the node](ask-the-node.md).
";

/// Comments by the path of what they belong to (descriptor.proto, `SourceCodeInfo.Location`).
struct Comments(BTreeMap<Vec<i32>, String>);

impl Comments {
    fn of(file: &FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        Self(
            locations
                .map(|location| {
                    let comment = location.leading_comments().to_owned() + location.trailing_comments();
                    (location.path.clone(), comment.split_whitespace().collect::<Vec<_>>().join(" "))
                })
                .collect(),
        )
    }

    /// In one line, harmless in a table.
    fn at(&self, path: &[i32]) -> String {
        self.0.get(path).map(|comment| comment.replace('|', "\\|")).unwrap_or_default()
    }
}

fn below(path: &[i32], more: [i32; 2]) -> Vec<i32> {
    [path, &more].concat()
}

fn index(number: usize) -> i32 {
    i32::try_from(number).unwrap()
}

fn link(full_name: &str) -> String {
    let name = full_name.trim_start_matches('.');
    let short = name.rsplit('.').next().unwrap();
    if name.starts_with("google.protobuf.") { format!("`{name}`") } else { format!("[{short}](#{name})") }
}

fn type_of(field: &FieldDescriptorProto, entries: &BTreeMap<String, DescriptorProto>) -> String {
    let bare = match field.r#type() {
        Type::Message | Type::Enum => link(field.type_name()),
        simple => simple.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    if let Some(entry) = entries.get(field.type_name()) {
        let part = |at: usize| type_of(&entry.field[at], entries);
        return format!("map of {} to {}", part(0), part(1));
    }
    match (field.label(), field.proto3_optional()) {
        (Label::Repeated, _) => format!("repeated {bare}"),
        (_, true) => format!("optional {bare}"),
        _ => bare,
    }
}

fn service(out: &mut String, comments: &Comments, at: usize, service: &ServiceDescriptorProto) {
    let path = [6, index(at)];
    let _ = write!(
        out,
        "\n### Service {}\n\n{}\n\n| Method | Asks with | Answers with | Meaning |\n|---|---|---|---|\n",
        service.name(),
        comments.at(&path)
    );
    for (number, method) in service.method.iter().enumerate() {
        let stream = |streams: bool| if streams { "stream of " } else { "" };
        let _ = writeln!(
            out,
            "| `{}` | {}{} | {}{} | {} |",
            method.name(),
            stream(method.client_streaming()),
            link(method.input_type()),
            stream(method.server_streaming()),
            link(method.output_type()),
            comments.at(&below(&path, [2, index(number)]))
        );
    }
}

fn message(out: &mut String, comments: &Comments, path: &[i32], (scope, message): (&str, &DescriptorProto)) {
    let full = format!("{scope}.{}", message.name());
    let _ = write!(out, "\n#### {} <a id=\"{full}\"></a>\n\n{}\n", message.name(), comments.at(path));
    let is_entry = |nested: &&DescriptorProto| nested.options.as_ref().is_some_and(|options| options.map_entry());
    let entries: BTreeMap<String, DescriptorProto> = message
        .nested_type
        .iter()
        .filter(is_entry)
        .map(|nested| (format!(".{full}.{}", nested.name()), nested.clone()))
        .collect();
    if !message.field.is_empty() {
        out.push_str("\n| Number | Field | Type | Meaning |\n|---|---|---|---|\n");
    }
    for (number, field) in message.field.iter().enumerate() {
        let choice = field.oneof_index.filter(|_| !field.proto3_optional());
        let choice = choice.map(|at| message.oneof_decl[usize::try_from(at).unwrap()].name());
        let _ = writeln!(
            out,
            "| {} | `{}` | {}{} | {} |",
            field.number(),
            field.name(),
            choice.map(|choice| format!("one of `{choice}`: ")).unwrap_or_default(),
            type_of(field, &entries),
            comments.at(&below(path, [2, index(number)]))
        );
    }
    for (number, nested) in message.nested_type.iter().enumerate().filter(|(_, nested)| !is_entry(nested)) {
        self::message(out, comments, &below(path, [3, index(number)]), (&full, nested));
    }
    for (number, nested) in message.enum_type.iter().enumerate() {
        enumeration(out, comments, &below(path, [4, index(number)]), (&full, nested));
    }
}

fn enumeration(out: &mut String, comments: &Comments, path: &[i32], (scope, of): (&str, &EnumDescriptorProto)) {
    let full = format!("{scope}.{}", of.name());
    let _ = write!(
        out,
        "\n#### {} <a id=\"{full}\"></a>\n\n{}\n\n| Number | Value | Meaning |\n|---|---|---|\n",
        of.name(),
        comments.at(path)
    );
    for (number, value) in of.value.iter().enumerate() {
        let comment = comments.at(&below(path, [2, index(number)]));
        let _ = writeln!(out, "| {} | `{}` | {comment} |", value.number(), value.name());
    }
}

/// The descriptors of a proto, comments included.
pub(super) fn compiled(file: &str) -> FileDescriptorProto {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
    let set = protox::compile([root.join(file)], [&root]).unwrap();
    set.file.into_iter().find(|compiled| compiled.name() == file).unwrap()
}

/// Full names of the methods that are served.
pub(super) fn methods() -> Vec<String> {
    let mut names = Vec::new();
    for (file, _) in SERVED {
        let file = compiled(file);
        for service in &file.service {
            names.extend(service.method.iter().map(|m| format!("{}.{}/{}", file.package(), service.name(), m.name())));
        }
    }
    names
}

/// Names of the fields of what a method is asked with.
pub(super) fn fields_asked(method: &str) -> Vec<String> {
    let (of, name) = method.split_once('/').unwrap();
    let files = SERVED.map(|(file, _)| compiled(file));
    let Some((file, input)) = files.iter().find_map(|file| {
        let service = file.service.iter().find(|service| format!("{}.{}", file.package(), service.name()) == of)?;
        let method = service.method.iter().find(|method| method.name() == name)?;
        Some((file, method.input_type().to_owned()))
    }) else {
        return Vec::new();
    };
    let messages = file.message_type.iter().filter(|m| format!(".{}.{}", file.package(), m.name()) == input);
    messages.flat_map(|message| &message.field).map(|field| field.name().to_owned()).collect()
}

fn reference() -> String {
    let mut out = HEAD.to_owned();
    for (name, words) in SERVED {
        let file = compiled(name);
        let comments = Comments::of(&file);
        let _ = write!(out, "\n## {}\n\n[proto/{name}](../proto/{name}). {words}\n", file.package());
        for (at, of) in file.service.iter().enumerate() {
            service(&mut out, &comments, at, of);
        }
        let _ = write!(out, "\n### Messages of {}\n", file.package());
        for (at, of) in file.message_type.iter().enumerate() {
            message(&mut out, &comments, &[4, index(at)], (file.package(), of));
        }
        for (at, of) in file.enum_type.iter().enumerate() {
            enumeration(&mut out, &comments, &[5, index(at)], (file.package(), of));
        }
    }
    out
}

#[test]
fn the_reference_of_the_api_is_that_of_the_protos() {
    let made = reference();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    if std::env::var_os("TRIMTAB_BLESS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(made == kept, "docs/api.md differs from the protos: run the tests once with TRIMTAB_BLESS=1 and commit it");
}

#[test]
fn everything_that_is_ours_is_described() {
    let file = compiled(SERVED[0].0);
    let comments = Comments::of(&file);
    let described = |path: &[i32], what: &str| assert!(!comments.at(path).is_empty(), "{what} has no comment");
    for (at, of) in file.service.iter().enumerate() {
        described(&[6, index(at)], of.name());
        for (number, method) in of.method.iter().enumerate() {
            described(&[6, index(at), 2, index(number)], method.name());
        }
    }
    for (at, of) in file.message_type.iter().enumerate() {
        described(&[4, index(at)], of.name());
        for (number, field) in of.field.iter().enumerate() {
            described(&[4, index(at), 2, index(number)], &format!("{}.{}", of.name(), field.name()));
        }
    }
    for (at, of) in file.enum_type.iter().enumerate() {
        described(&[5, index(at)], of.name());
        for (number, value) in of.value.iter().enumerate() {
            described(&[5, index(at), 2, index(number)], value.name());
        }
    }
}

#[test]
fn every_link_of_the_reference_leads_somewhere() {
    let made = reference();
    let anchors: Vec<&str> = made.split("<a id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let links: Vec<&str> = made.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
    assert!(links.len() > 50, "{}", links.len());
    for link in links {
        assert!(anchors.contains(&link), "#{link}");
    }
    let twice = anchors.iter().enumerate().find(|(at, anchor)| anchors[..*at].contains(anchor));
    assert_eq!(twice, None, "an anchor is given twice");
}
