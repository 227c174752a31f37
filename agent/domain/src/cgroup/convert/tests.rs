//! Tables on values of the CPU and memory controllers.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

#[test]
fn both_weight_formulas_match_the_published_table() {
    // milliCPU, shares, old weight, new weight
    let rows = [
        (0, 2, 1, 1),
        (10, 10, 1, 4),
        (50, 51, 2, 11),
        (100, 102, 4, 17),
        (250, 256, 10, 35),
        (500, 512, 20, 59),
        (1000, 1024, 39, 100),
        (1500, 1536, 59, 138),
        (2000, 2048, 79, 174),
        (4000, 4096, 157, 303),
        (8000, 8192, 313, 532),
        (14500, 14848, 567, 868),
        (16000, 16384, 625, 942),
        (32000, 32768, 1250, 1681),
        (64000, 65536, 2500, 3023),
        (128_000, 131_072, 5000, 5478),
        (256_000, 262_144, 10000, 10000),
    ];
    for (milli, shares, old, new) in rows {
        assert_eq!(milli_to_shares(milli), shares, "shares of {milli}m");
        assert_eq!(shares_to_weight_old(shares), old, "old weight of {milli}m");
        assert_eq!(shares_to_weight_new(shares), new, "new weight of {milli}m");
    }
    let back = [20, 10, 4].map(|weight| shares_to_milli(weight_to_shares(weight)));
    assert_eq!(back, [489, 232, 79], "the way back loses");
}

#[test]
fn whole_cpus_and_shares_of_them_belong_to_each_other() {
    for cpus in 1..256_u64 {
        assert_eq!(shares_to_milli(milli_to_shares(cpus * 1000)), cpus * 1000);
        assert_ne!(milli_to_shares(cpus * 1000 - 1), cpus * 1024);
        assert_ne!(milli_to_shares(cpus * 1000 + 1), cpus * 1024);
    }
    assert_eq!((shares_to_milli(0), shares_to_milli(2), shares_to_milli(3)), (0, 0, 3));
}

#[test]
fn quotas_have_a_floor() {
    for (milli, period, quota) in
        [(0, 100_000, None), (5, 100_000, Some(1000)), (1500, 100_000, Some(150_000)), (2000, 5000, Some(10_000))]
    {
        assert_eq!(milli_to_quota(milli, period), quota, "{milli}m");
    }
}

fn v1(shares: u64, quota: Option<u64>) -> CpuControl {
    CpuControl { weight: Some(Weight::Shares(shares)), quota: Some(Quota { quota_us: quota, period_us: 100_000 }) }
}

fn v2(weight: u64, quota: Option<u64>) -> CpuControl {
    CpuControl { weight: Some(Weight::Weight(weight)), quota: Some(Quota { quota_us: quota, period_us: 100_000 }) }
}

#[test]
fn the_request_of_a_guaranteed_container_is_exact_or_unknown() {
    let rows = [
        ("v1, two CPUs", v1(2048, Some(200_000)), Some(2000)),
        ("v1, two CPUs without quota", v1(2048, None), Some(2000)),
        ("v1, fraction", v1(1536, Some(150_000)), Some(1500)),
        ("v1, nothing", v1(2, None), Some(0)),
        ("v1, saturated shares with quota", v1(262_144, Some(30_000_000)), Some(300_000)),
        ("v1, saturated shares without quota", v1(262_144, None), None),
        ("v2, runc before 1.3.2", v2(79, Some(200_000)), Some(2000)),
        ("v2, runc 1.3.2", v2(174, Some(200_000)), Some(2000)),
        ("v2, 1995m rounded up by systemd", v2(78, Some(200_000)), None),
        ("v2, weight of another hand", v2(100, Some(200_000)), Some(2000)),
        ("v2, without quota", v2(174, None), None),
        ("v2, nothing", v2(1, None), Some(0)),
        ("no cpu controller", CpuControl::default(), None),
    ];
    for (name, control, milli) in rows {
        assert_eq!(control.guaranteed_request_milli(), milli, "{name}");
    }
}

#[test]
fn only_the_idle_ask_for_nothing() {
    let rows = [
        (v1(2, None), true),
        (v1(102, None), false),
        (v1(2, Some(10_000)), false),
        (v2(1, None), true),
        (v2(4, None), false),
        (CpuControl::default(), true),
    ];
    for (control, expected) in rows {
        assert_eq!(control.asks_for_nothing(), expected, "{control:?}");
    }
}

#[test]
fn kernel_texts_are_read_and_others_refused() {
    assert_eq!(parse_cpu_max("max 100000\n"), Ok(Quota { quota_us: None, period_us: 100_000 }));
    assert_eq!(parse_cpu_max("150000 50000"), Ok(Quota { quota_us: Some(150_000), period_us: 50_000 }));
    assert_eq!(parse_quota_v1("-1\n", "100000\n"), Ok(Quota { quota_us: None, period_us: 100_000 }));
    assert_eq!(parse_weight("cpu.shares", "1024\n"), Ok(Weight::Shares(1024)));
    assert_eq!(parse_weight("cpu.weight", "100\n"), Ok(Weight::Weight(100)));
    assert_eq!(parse_limit("memory.max", "max\n"), Ok(Limit::Unlimited));
    assert_eq!(parse_limit("memory.limit_in_bytes", "9223372036854771712\n"), Ok(Limit::Unlimited));
    assert_eq!(parse_limit("memory.limit_in_bytes", "18446744073709551616"), Ok(Limit::Unlimited));
    assert_eq!(parse_limit("memory.max", "12288"), Ok(Limit::Bytes(12288)));
    for text in ["", "max", "100000", "0 100000", "-1 100000", "max 0", "1 2 3", "+5 100000", "1\n2 3", "0x10 5"] {
        assert!(parse_cpu_max(text).is_err(), "cpu.max {text:?}");
    }
    for (quota, period) in [("max", "100000"), ("-2", "100000"), ("0", "100000"), ("1000", ""), ("1000", "-1")] {
        assert!(parse_quota_v1(quota, period).is_err(), "{quota:?} {period:?}");
    }
    for (file, text) in [
        ("cpu.shares", "1"),
        ("cpu.shares", "262145"),
        ("cpu.shares", ""),
        ("cpu.weight", "10001"),
        ("cpu.weight", "-1"),
        ("cpu.weight", "idle"),
        ("cpu.idle", "0"),
    ] {
        assert!(parse_weight(file, text).is_err(), "{file} {text:?}");
    }
    for text in ["", "-1", "12 ", "1k", "unlimited", "+7"] {
        let error = parse_limit("memory.max", text).unwrap_err().to_string();
        assert!(error.contains("memory.max") && error.contains(&format!("{text:?}")), "{error}");
    }
}
