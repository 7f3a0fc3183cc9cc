use ulmfit::device::Careful;

#[global_allocator]
static ALLOCATOR: Careful = Careful;

/// The stack of the thread that does the work. It is there from the beginning: that of a process
/// grows, and where the system refuses that the process is killed.
const STACK: usize = 16 << 20;

fn main() {
    let work = || ulmfit::cli::main(std::env::args_os().collect());
    let status = match std::thread::Builder::new().name("main".into()).stack_size(STACK).spawn(work) {
        // a fault of the program is told, and ends it, where it is found
        Ok(thread) => thread.join().unwrap_or(1),
        Err(fault) => {
            eprintln!("error: the system refused a thread: {fault}");
            1
        }
    };
    std::process::exit(status);
}
