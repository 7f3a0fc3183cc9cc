fn main() {
    std::process::exit(ulmfit::cli::main(std::env::args_os().collect()));
}
