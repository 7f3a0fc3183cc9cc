use ulmfit::device::Careful;

#[global_allocator]
static ALLOCATOR: Careful = Careful;

fn main() {
    std::process::exit(ulmfit::cli::process(std::env::args_os().collect()));
}
