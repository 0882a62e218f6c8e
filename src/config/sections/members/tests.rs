//! Files of members: both forms, and what is wrong with them, by line and column.

use super::*;

/// Members as `name address weight leaving`.
fn read_as_text(text: &str) -> Vec<String> {
    let members = read_members(text).unwrap();
    let line = |member: &ListedMember| {
        let ListedMember { backend, leaving } = member;
        format!("{} {} {} {leaving}", backend.identity(), backend.address, backend.weight)
    };
    members.iter().map(line).collect()
}

fn problems(text: &str) -> String {
    read_members(text).unwrap_err().in_file("m").to_string()
}

#[test]
fn members_are_a_list_of_addresses_and_mappings() {
    let list = "- 10.0.0.1:80\n- { name: shard-1, address: 10.0.0.2:80, weight: 3, leaving: true }\n";
    let expected = ["10.0.0.1:80 10.0.0.1:80 1 false", "shard-1 10.0.0.2:80 3 true"];
    assert_eq!(read_as_text(list), expected);
    let indented: String = list.lines().map(|line| format!("  {line}\n")).collect();
    assert_eq!(read_as_text(&format!("members:\n{indented}")), expected);
    assert_eq!(read_as_text("[]"), [""; 0]);
    assert_eq!(read_as_text("members: []"), [""; 0]);
}

#[test]
fn groups_of_prometheus_are_read_with_the_labels_that_are_ours() {
    let json = r#"[
      {"targets": ["10.0.0.1:80", "10.0.0.2:80"], "labels": {"job": "chat", "__meta_x": "y"}},
      {"targets": ["10.0.0.3:80"],
       "labels": {"longhaul_name": "shard-2", "longhaul_weight": "4", "longhaul_leaving": "true"}},
      {"targets": []}
    ]"#;
    let expected = ["10.0.0.1:80 10.0.0.1:80 1 false", "10.0.0.2:80 10.0.0.2:80 1 false", "shard-2 10.0.0.3:80 4 true"];
    assert_eq!(read_as_text(json), expected);
    assert_eq!(read_as_text("- targets: ['10.0.0.1:80']\n"), expected[..1]);
}

#[test]
fn what_is_wrong_is_told_with_line_and_column() {
    for (text, expected) in [
        ("", "m:1:1: the file is empty"),
        ("members:\n", "members: the value is missing"),
        ("- 10.0.0.1:80\n- 10.0.0.1:80\n", "m:2:3: [1]: 10.0.0.1:80 is a backend twice; the first is on line 1"),
        (
            "- { name: a, address: 10.0.0.1:80 }\n- { name: a, address: 10.0.0.2:80 }\n",
            "m:2:3: [1]: `a` is the name of two backends; the first is on line 1",
        ),
        ("- { address: 10.0.0.1:80, wieght: 2 }\n", "m:1:27: [0].wieght: unknown key"),
        ("- 10.0.0.1:80\n- 10.0.0", "m:2:3: [1]: "),
        ("- { address: 10.0.0.1:80, weight: 0 }", "m:1:1: every weight is 0: no backend would get anything"),
        ("[{\"targets\": [\"10.0.0.1:80\"", "m:2:1: not YAML"),
        (
            "- { targets: [10.0.0.1:80, 10.0.0.2:80], labels: { longhaul_name: a } }",
            "m:1:14: [0].targets: a group with the label `longhaul_name` has 2 targets",
        ),
        ("- { targets: [10.0.0.1:80], labels: { longhaul_weight: heavy } }", "`heavy` does not fit here"),
        ("- { targets: [10.0.0.1:80], labels: { longhaul_leaving: 1 } }", "`1` does not fit here"),
    ] {
        assert!(problems(text).contains(expected), "{text:?}: {}", problems(text));
    }
}
