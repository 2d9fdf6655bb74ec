//! Which pytest test a call path belongs to, told by the path alone: below pytest's call of the test stands the test.
//!
//! What runs before and after it (fixtures, the import of its module) is of no test. The cases of a parametrized test are
//! one: the path does not say which of them runs.

use super::merged::{Code, CodeId, Merged};
use crate::profile::FrameKind;

/// Where a path stands on its way from pytest to the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Pytest has called no test.
    Outside,
    /// Pytest calls a test: the next frame of own code is it, or wraps it.
    Called,
    /// A function that is not named like a test: a decorator's, or a test of another name.
    Wrapped(CodeId),
    /// In the test.
    Test(CodeId),
}

/// For each node of the tree the test that it is in.
pub fn tests(merged: &Merged) -> Vec<Option<CodeId>> {
    let mut stages: Vec<Stage> = Vec::with_capacity(merged.nodes.len());
    for (at, node) in merged.nodes.iter().enumerate() {
        let above = if at == 0 { Stage::Outside } else { stages[node.parent as usize] };
        let stage = if at == 0 { Stage::Outside } else { next(above, node.code, merged.code_of(node.code)) };
        stages.push(stage);
    }
    let test = |stage: &Stage| match stage {
        Stage::Outside | Stage::Called => None,
        Stage::Wrapped(code) | Stage::Test(code) => Some(*code),
    };
    stages.iter().map(test).collect()
}

fn next(above: Stage, id: CodeId, code: &Code) -> Stage {
    let own = code.kind == FrameKind::Own;
    match above {
        Stage::Outside if calls_a_test(code) => Stage::Called,
        Stage::Called if is_named_like_a_test(code) && (own || is_of_an_installed_suite(code)) => Stage::Test(id),
        Stage::Called if own => Stage::Wrapped(id),
        Stage::Wrapped(_) if own && is_named_like_a_test(code) => Stage::Test(id),
        _ => above,
    }
}

/// The frames of pytest that stand right above a test: a function's, and a `unittest.TestCase`'s.
fn calls_a_test(code: &Code) -> bool {
    let last = code.function.rsplit('.').next().unwrap_or_default();
    match last {
        "pytest_pyfunc_call" => code.file == "_pytest/python.py",
        "runtest" => code.file == "_pytest/unittest.py",
        _ => false,
    }
}

fn is_named_like_a_test(code: &Code) -> bool {
    code.function.rsplit('.').next().is_some_and(|name| name.starts_with("test"))
}

/// The tests of an installed package, but not what pytest and its plugins are made of.
fn is_of_an_installed_suite(code: &Code) -> bool {
    let plugin = ["_pytest/", "pluggy/", "pytest", "anyio/", "hypothesis/"];
    code.kind == FrameKind::Package && !plugin.iter().any(|start| code.file.starts_with(start))
}

/// What pytest calls a test: `tests/test_api.py::TestOrders::test_new`.
pub fn node_id(code: &Code) -> String {
    let function = code.function.replace(".<locals>.", "/");
    format!("{}::{}", code.file, function.replace('.', "::"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::merged::Grain;
    use crate::compare::places::Places;
    use crate::profile::builder::ProfileBuilder;

    const SITE: &str = "/v/lib/python3.11/site-packages";

    fn check(path: &[(FrameKind, &str, &str)], expected: Option<&str>) {
        let mut builder = ProfileBuilder::new();
        let frames: Vec<_> =
            path.iter().map(|(kind, file, function)| builder.frame(*kind, function, file, 7, 1)).collect();
        let stack = builder.stack(&frames);
        let profile = builder.into_profile();
        let mut merged = Merged::new(Grain::default());
        let placed = merged.add(&profile, &Places::new(&[&profile], Some("/srv")), 0);
        let test = tests(&merged)[placed.node(stack) as usize].map(|code| node_id(merged.code_of(code)));
        assert_eq!(test.as_deref(), expected);
    }

    #[test]
    fn a_test_is_found_below_pytests_call() {
        let python = format!("{SITE}/_pytest/python.py");
        let call = (FrameKind::Package, python.as_str(), "pytest_pyfunc_call");
        let test = (FrameKind::Own, "/srv/tests/test_api.py", "TestOrders.test_new");
        let helper = (FrameKind::Own, "/srv/shop/app.py", "make");
        let wrapper = (FrameKind::Own, "/srv/tests/tools.py", "retry.<locals>.wrapper");
        let check_names = Some("tests/test_api.py::TestOrders::test_new");
        check(&[call, test, helper], check_names);
        check(&[call, wrapper, test], check_names);
        check(&[call, wrapper, helper], Some("tests/tools.py::retry/wrapper"));
        check(&[call, (FrameKind::Stdlib, "/usr/lib/python3.11/asyncio/runners.py", "run"), test], check_names);
        check(&[helper, test], None);
        check(&[call], None);
        let case = format!("{SITE}/_pytest/unittest.py");
        check(&[(FrameKind::Package, &case, "TestCaseFunction.runtest"), test], check_names);
        let installed = format!("{SITE}/numpy/tests/test_x.py");
        check(&[call, (FrameKind::Package, &installed, "test_sum")], Some("numpy/tests/test_x.py::test_sum"));
    }
}
