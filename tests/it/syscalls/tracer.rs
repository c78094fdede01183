//! Kills a program as its nth call of a kind begins, which is what `strace -e inject=CALL:signal=SIGKILL:when=N` does, and
//! counts as strace does: by thread.
//!
//! strace has to stop the program at each of its calls for that (it sends no signal where seccomp chooses the calls), which
//! takes five times as long as the program itself. Here seccomp stops it at calls of that kind only, so that all kills and
//! all second kills can be tried within an hour. [`super::strace`] kills where calls are counted file by file, and wherever
//! this cannot work; a test below holds that both kill at the same call.

use std::{
    collections::HashMap,
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use libc::{c_int, c_long, pid_t};

/// The number of a call, if it is one of those that this knows here.
#[cfg(target_arch = "x86_64")]
pub fn number_of(call: &str) -> Option<c_long> {
    Some(match call {
        "write" => libc::SYS_write,
        "pwrite64" => libc::SYS_pwrite64,
        "fsync" => libc::SYS_fsync,
        "fdatasync" => libc::SYS_fdatasync,
        "sync_file_range" => libc::SYS_sync_file_range,
        "rename" => libc::SYS_rename,
        "renameat2" => libc::SYS_renameat2,
        "link" => libc::SYS_link,
        "linkat" => libc::SYS_linkat,
        "symlink" => libc::SYS_symlink,
        "unlink" => libc::SYS_unlink,
        "unlinkat" => libc::SYS_unlinkat,
        "rmdir" => libc::SYS_rmdir,
        "mkdir" => libc::SYS_mkdir,
        "ftruncate" => libc::SYS_ftruncate,
        "fallocate" => libc::SYS_fallocate,
        "fchmod" => libc::SYS_fchmod,
        "copy_file_range" => libc::SYS_copy_file_range,
        "bind" => libc::SYS_bind,
        "openat" => libc::SYS_openat,
        _ => return None,
    })
}

#[cfg(not(target_arch = "x86_64"))]
pub fn number_of(_: &str) -> Option<c_long> {
    None
}

/// Runs a command, and kills it as any one of its threads begins its `nth` call of this `number`; or when it takes longer
/// than `longest`.
///
/// # Panics
/// Where the system does not let it be traced.
#[allow(clippy::zombie_processes, reason = "the tracer waits for it, as for all its threads")]
pub fn run_and_kill(command: &mut Command, number: c_long, nth: usize, longest: Duration) -> ExitStatus {
    let filter = stop_at(number);
    // SAFETY: between fork and exec only system calls are made, on memory that was ready before.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
            done(libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0))?;
            done(c_long::from(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)))?;
            done(c_long::from(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)))
        });
    }
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Tracer { pid: pid_of(&child), nth, calls: HashMap::new(), deadline: Instant::now() + longest }.follow()
}

/// A seccomp program: the tracer is asked about calls of this number, all others go through.
fn stop_at(number: c_long) -> [libc::sock_filter; 4] {
    let step = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    [
        // the call's number is the first word of what the filter sees
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_TRACE),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

struct Tracer {
    pid: pid_t,
    nth: usize,
    /// By thread.
    calls: HashMap<pid_t, usize>,
    deadline: Instant,
}

impl Tracer {
    fn follow(mut self) -> ExitStatus {
        let mut is_new = true;
        loop {
            let (thread, status) = self.next();
            if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
                if thread == self.pid {
                    return ExitStatus::from_raw(status);
                }
                continue;
            }
            let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
            let mut passed_on = 0;
            if is_new {
                // the stop behind exec: nothing of the program ran yet
                is_new = false;
                let options = libc::PTRACE_O_TRACESECCOMP | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_EXITKILL;
                self.ask(libc::PTRACE_SETOPTIONS, thread, options);
            } else if event == libc::PTRACE_EVENT_SECCOMP {
                let calls = self.calls.entry(thread).or_default();
                *calls += 1;
                if *calls == self.nth {
                    self.kill();
                    continue;
                }
            } else if event == 0 && signal != libc::SIGSTOP {
                passed_on = signal;
            }
            self.ask(libc::PTRACE_CONT, thread, passed_on);
        }
    }

    /// The next thread that stopped or ended; of those that this very thread traces, since other tests have children, too.
    fn next(&self) -> (pid_t, c_int) {
        loop {
            let mut status = 0;
            // SAFETY: `status` is a place for an int.
            let thread =
                unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD | libc::WNOHANG) };
            match thread {
                0 if Instant::now() > self.deadline => self.kill(),
                0 => {}
                -1 => panic!("the traced program cannot be waited for: {}", io::Error::last_os_error()),
                _ => return (thread, status),
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// A thread that was killed meanwhile cannot be asked any more, and needs not.
    fn ask(&self, request: libc::c_uint, thread: pid_t, data: c_int) {
        // SAFETY: neither request reads or writes memory of ours.
        let asked = done(unsafe { libc::ptrace(request, thread, 0, c_long::from(data)) });
        if let Err(error) = asked {
            assert_eq!(error.raw_os_error(), Some(libc::ESRCH), "ptrace {request}: {error}");
        }
    }

    fn kill(&self) {
        // SAFETY: kill(2) takes no pointers; the process was spawned here and is not yet waited for.
        assert_eq!(unsafe { libc::kill(self.pid, libc::SIGKILL) }, 0, "a child of ours can be killed");
    }
}

fn pid_of(child: &Child) -> pid_t {
    pid_t::try_from(child.id()).expect("a process id fits")
}

fn done(result: c_long) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
