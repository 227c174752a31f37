//! `nodeSelector`.

use trimtab_domain::cluster::label::Operator;

use super::Schema;

pub(super) fn selector() -> Schema {
    let words = Operator::ALL.map(Operator::as_str);
    let requirement = Schema::object("One requirement on one label.")
        .field("key", Schema::text("Key of the label.").max_length(317))
        .field("operator", Schema::choice("What is asked of it.", &words))
        .field(
            "values",
            Schema::list("The values of In and NotIn; none for the others.", Schema::text("A value.").max_length(63)),
        )
        .required(&["key", "operator"])
        .rule(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            "In and NotIn need values, Exists and DoesNotExist have none",
        );
    Schema::object("The nodes that the profile is for, by their labels; absent or empty: every node.")
        .field(
            "matchLabels",
            Schema::map("Labels that must have these values.", Schema::text("The value.").max_length(63)),
        )
        .field("matchExpressions", Schema::list("Further requirements; all must hold.", requirement).max_items(64))
}
