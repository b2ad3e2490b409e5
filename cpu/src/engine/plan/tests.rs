//! What is checked where, for short pieces of code.

use super::*;
use crate::engine::blocks::Mode;
use crate::state::gpr::{RBP, RBX, RSP};
use iced_x86::{Decoder, DecoderOptions};

fn plan(code: &[u8], user: bool) -> Plan {
    let mut factory = iced_x86::InstructionInfoFactory::new();
    let steps = Decoder::new(64, code, DecoderOptions::NONE).into_iter();
    let steps: Vec<Step> = steps.map(|one| Step::new(one, Mode::default(), &mut factory)).collect();
    let mut plan = Plan::default();
    plan.make(&steps, user);
    plan
}

fn stack(index: usize, low: i32, length: i32, writes: bool) -> (usize, Check) {
    (index, Check { guest: RSP, low, length, writes, found: Found::Stack(0) })
}

fn covered<const N: usize>(plan: &Plan, guest: usize) -> [bool; N] {
    std::array::from_fn(|index| plan.found(index, guest).is_some())
}

#[test]
fn pushes_and_a_call_are_checked_once() {
    // push rbx; push rbp; sub rsp,24; mov [rsp+8],rax; call
    let found = plan(&[0x53, 0x55, 0x48, 0x83, 0xec, 24, 0x48, 0x89, 0x44, 0x24, 8, 0xe8, 0, 0, 0, 0], false);
    assert_eq!(found.checks, [stack(0, -48, 48, true)]);
    assert_eq!(covered(&found, RSP), [true, true, false, true, true]);
}

#[test]
fn an_unknown_stack_pointer_starts_again() {
    // push rax; mov rsp,rdi; pop rbx; hlt; pop rcx; ret
    let found = plan(&[0x50, 0x48, 0x89, 0xfc, 0x5b, 0xf4, 0x59, 0xc3], false);
    assert_eq!(found.checks, [stack(0, -8, 8, true), stack(2, 0, 8, false), stack(4, 0, 16, false)]);
    assert_eq!(covered(&found, RSP), [true, false, true, false, true, true]);
}

#[test]
fn what_is_too_far_apart_is_checked_apart() {
    // mov [rsp],rax; mov [rsp+0x800],rax
    let found = plan(&[0x48, 0x89, 0x04, 0x24, 0x48, 0x89, 0x84, 0x24, 0, 8, 0, 0], false);
    assert_eq!(found.checks, [stack(0, 0, 8, true), stack(1, 0x800, 8, true)]);
}

#[test]
fn frame_pointers_are_user_programs_and_point_above_their_data() {
    // mov eax,[rbp-4]; mov [rbp+16],rax; mov rbp,rax; mov eax,[rbp-8]
    let code = [0x8b, 0x45, 0xfc, 0x48, 0x89, 0x45, 16, 0x48, 0x89, 0xc5, 0x8b, 0x45, 0xf8];
    let found = plan(&code, true);
    let check = |index, low, length, writes, found| (index, Check { guest: RBP, low, length, writes, found });
    let expected = [check(0, -4, 28, true, Found::Stack(1)), check(3, -8, 4, false, Found::Stack(1))];
    assert_eq!(found.checks, expected);
    assert_eq!(covered(&found, RBP), [true, true, false, true]);
    let found = plan(&code, false);
    assert_eq!(found.checks, [check(0, -4, 28, true, Found::Table)]);
    // One access alone: the general look-up is as good.
    assert_eq!(covered(&found, RBP), [true, true, false, false]);
}

#[test]
fn accesses_off_any_register_are_checked_together() {
    // mov eax,[rbx]; add rbx,8; mov ecx,[rbx+8]; mov rbx,[rbx]; mov [rbx],eax
    let found = plan(&[0x8b, 3, 0x48, 0x83, 0xc3, 8, 0x8b, 0x4b, 8, 0x48, 0x8b, 0x1b, 0x89, 3], true);
    let check = Check { guest: RBX, low: 0, length: 20, writes: false, found: Found::Table };
    assert_eq!(found.checks, [(0, check)]);
    assert_eq!(covered(&found, RBX), [true, false, true, true, false]);
}

#[test]
fn an_index_or_a_segment_is_not_a_constant_distance() {
    // mov eax,[rsp+rax]; mov eax,fs:[rsp]; mov eax,[esp]
    let found = plan(&[0x8b, 0x04, 0x04, 0x64, 0x8b, 0x04, 0x24, 0x67, 0x8b, 0x04, 0x24], true);
    assert_eq!(found.checks, []);
}
