//! What is checked where, for short pieces of code.

use super::*;
use iced_x86::{Decoder, DecoderOptions};

fn plans(code: &[u8], user: bool) -> Vec<Plan> {
    let instructions: Vec<Instruction> = Decoder::new(64, code, DecoderOptions::NONE).into_iter().collect();
    plan(&instructions, user, |one| one.mnemonic() == Mnemonic::Hlt)
}

fn stack(low: i32, length: i32) -> Vec<Check> {
    vec![Check { pointer: Pointer::Stack, low, length }]
}

#[test]
fn pushes_and_a_call_are_checked_once() {
    // push rbx; push rbp; sub rsp,24; mov [rsp+8],rax; call
    let found = plans(&[0x53, 0x55, 0x48, 0x83, 0xec, 24, 0x48, 0x89, 0x44, 0x24, 8, 0xe8, 0, 0, 0, 0], false);
    assert_eq!(found[0].checks, stack(-48, 48));
    assert!(found[1..].iter().all(|plan| plan.checks.is_empty()));
    let covered: Vec<bool> = found.iter().map(|plan| plan.stack).collect();
    assert_eq!(covered, [true, true, false, true, true]);
}

#[test]
fn an_unknown_stack_pointer_starts_again() {
    // push rax; mov rsp,rdi; pop rbx; hlt; pop rcx; ret
    let found = plans(&[0x50, 0x48, 0x89, 0xfc, 0x5b, 0xf4, 0x59, 0xc3], false);
    assert_eq!(found[0].checks, stack(-8, 8));
    assert_eq!(found[2].checks, stack(0, 8));
    assert_eq!(found[4].checks, stack(0, 16));
    assert!(!found[1].stack && !found[3].stack);
}

#[test]
fn what_is_too_far_apart_is_checked_apart() {
    // mov [rsp],rax; mov [rsp+0x800],rax
    let found = plans(&[0x48, 0x89, 0x04, 0x24, 0x48, 0x89, 0x84, 0x24, 0, 8, 0, 0], false);
    assert_eq!(found[0].checks, stack(0, 8));
    assert_eq!(found[1].checks, stack(0x800, 8));
}

#[test]
fn frame_pointers_are_user_programs_and_point_above_their_data() {
    // mov eax,[rbp-4]; mov [rbp+16],rax; mov rbp,rax; mov eax,[rbp-8]
    let code = [0x8b, 0x45, 0xfc, 0x48, 0x89, 0x45, 16, 0x48, 0x89, 0xc5, 0x8b, 0x45, 0xf8];
    let found = plans(&code, true);
    assert_eq!(found[0].checks, [Check { pointer: Pointer::Frame, low: -4, length: 28 }]);
    assert!(found[0].frame && found[1].frame && found[3].frame);
    assert_eq!(found[3].checks, [Check { pointer: Pointer::Frame, low: -8, length: 4 }]);
    assert_eq!(plans(&code, false), vec![Plan::default(); 4]);
    // mov eax,[rbp+4]: any pointer.
    assert_eq!(plans(&[0x8b, 0x45, 4], true), vec![Plan::default()]);
}

#[test]
fn an_index_or_a_segment_is_not_the_stack() {
    // mov eax,[rsp+rax]; mov eax,fs:[rsp]; mov eax,[esp]
    let found = plans(&[0x8b, 0x04, 0x04, 0x64, 0x8b, 0x04, 0x24, 0x67, 0x8b, 0x04, 0x24], true);
    assert_eq!(found, vec![Plan::default(); 3]);
}
