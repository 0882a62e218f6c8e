//! Longhaul and other gateways on the same work, side by side: `longhaul-bench --help`.

fn main() -> std::process::ExitCode {
    longhaul_bench::cli::main()
}
