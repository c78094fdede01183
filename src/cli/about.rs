//! Completions and man pages, from the definitions of the commands.

use std::io::Write;

use clap::CommandFactory;

use super::{
    args::{Args, CompletionsArgs, ManArgs},
    streams::{Failure, data},
};
use crate::model::Error;

pub fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "highwater", &mut script);
    print(&script)
}

pub fn man(args: &ManArgs) -> Result<(), Failure> {
    let mut root = Args::command();
    root.build();
    let command = match &args.command {
        None => root,
        Some(name) => root.find_subcommand(name).cloned().ok_or_else(|| {
            let names = root.get_subcommands().map(clap::Command::get_name);
            let error = Error::usage(format!("there is no command '{name}'"));
            match crate::job::nearest(name, names) {
                Some(near) => error.help(format!("did you mean '{near}'?")),
                None => error.help("`highwater --help` lists them"),
            }
        })?,
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    print(&page)
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = data();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}
