//! What the original agent left in the kernel, recorded, against what the subsystem leaves in a table in memory.

use std::sync::Arc;

use trimtab::subsystems::masquerade::Masquerade;
use trimtab_domain::masquerade::{Backend, Family, TableId};
use trimtab_domain::spec::NodeSpec;

use crate::laws;
use crate::support::fake_ledger::FakeLedger;
use crate::support::fake_masq_config::FakeMasqConfig;
use crate::support::fake_nat::FakeNat;
use crate::support::recorded_masquerade::{self, Case};

#[tokio::test]
async fn the_same_configuration_leaves_the_same_rules() {
    let cases = recorded_masquerade::cases();
    assert!(cases.len() >= 60, "only {} recorded cases were understood", cases.len());
    for case in cases {
        let (nat, ledger) = (FakeNat::new(Backend::Nft), FakeLedger::new());
        let table = |family| TableId { family, backend: Backend::Nft };
        for (family, text) in &case.before {
            nat.other(table(*family), text);
        }
        let subsystem = Masquerade::new(Arc::new(nat.clone()), Arc::new(ledger), Arc::new(FakeMasqConfig::new()));
        let spec = NodeSpec { ip_masq: Some(case.spec.clone()), ..NodeSpec::default() };
        let pass = laws::pass(&subsystem, &spec).await;
        assert!(pass.failures.is_empty() && pass.left.is_empty(), "{}: {:?}", case.id, pass.failures);
        for family in Family::ALL {
            let expected = case.expected(family);
            assert_eq!(Case::by_chain(&nat.print(table(family))), expected, "{} {family}", case.id);
        }
    }
}
