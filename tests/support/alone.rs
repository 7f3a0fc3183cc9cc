//! A test that needs a process for itself: because it counts what the whole process does, or
//! because a process can open only one GPU.

use std::process::Command;

/// Tells a process that was started which test it is for.
const INSIDE: &str = "ULMFIT_TEST_ALONE";

/// A test's name for the harness, which leaves the crate out. `test`: its path, module_path!() and
/// name.
fn name(test: &str) -> &str {
    test.split_once("::").expect("a path in a crate").1
}

/// Whether this process is that of the test.
#[allow(dead_code, reason = "the library's tests do not ask")]
pub fn is_inside(test: &str) -> bool {
    std::env::var(INSIDE).as_deref() == Ok(name(test))
}

/// Runs `body` in a process of its own, which is this binary again with one test.
pub fn alone(test: &str, body: impl FnOnce()) {
    if is_inside(test) {
        return body();
    }
    let (program, test) = (std::env::current_exe().unwrap(), name(test));
    let output = Command::new(program).args([test, "--exact", "--nocapture"]).env(INSIDE, test).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{test} failed in its own process");
    assert!(said.contains("test result: ok. 1 passed"), "there is no test {test}");
}
