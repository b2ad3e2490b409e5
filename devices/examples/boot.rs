//! Boots a kernel on a machine and prints what its first serial port sends: `boot KERNEL [INITRD [COMMAND LINE]]`.
//! A debugging aid; the product is the `ftemu` program.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use ftemu_devices::{Config, Icount, Machine, Output, Ran};
use std::io::Write;
use std::time::Instant;

const SLICE: u64 = 1 << 26;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kernel, rest @ ..] = &arguments[..] else { return Err("usage: boot KERNEL [INITRD [COMMAND LINE]]".into()) };
    let kernel = std::fs::read(kernel)?;
    let initrd = rest.first().map(std::fs::read).transpose()?;
    let line = rest.get(1).map_or("console=ttyS0 earlyprintk=ttyS0 panic=-1", String::as_str);
    let mut machine = Machine::new(&Config::default())?;
    machine.load_linux(&kernel, initrd.as_deref(), line)?;
    let start = Instant::now();
    loop {
        let ran = machine.run(Icount(machine.count().0 + SLICE));
        for emitted in machine.drain() {
            match emitted.output {
                Output::Serial { port: 0, bytes } => std::io::stdout().write_all(&bytes)?,
                Output::Serial { .. } => {}
                other => eprintln!("[{other:?} at {}]", emitted.count.0),
            }
        }
        std::io::stdout().flush()?;
        match ran {
            Ran::Idle { deadline_ns: Some(_) } => machine.skip_idle(),
            Ran::Idle { deadline_ns: None } | Ran::PoweredOff => break,
            Ran::Count if std::env::var_os("BOOT_TRACE").is_some() => eprintln!(
                "[{} M instructions, {:?}, rip {:#x}]",
                machine.count().0 >> 20,
                start.elapsed(),
                machine.cpu().state().rip
            ),
            Ran::DriveFault { drive, .. } => return Err(format!("drive {drive} cannot be served").into()),
            Ran::Count | Ran::Output => {}
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    eprintln!(
        "[{} instructions in {seconds:.1} s, {:.0} MIPS]",
        machine.count().0,
        machine.count().0 as f64 / seconds / 1e6
    );
    Ok(())
}
