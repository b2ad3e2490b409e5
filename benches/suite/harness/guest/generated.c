// Machine code made at run time.
//
//   generated once FUNCTIONS   distinct functions, written 64 at a time and each called twice, as a compiler of
//                              the guest's own would; the memory is used again after 16 MiB
//   generated patch TIMES      one function whose immediate operand is rewritten before every call
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ROOM = 16 << 20, BATCH = 64, LONGEST = 512 };
typedef uint32_t function(uint32_t);

static uint32_t seed = 1;
static uint32_t random_word(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    return seed ^= seed << 5;
}

static uint8_t *put(uint8_t *at, const char *bytes, size_t length)
{
    memcpy(at, bytes, length);
    return at + length;
}

static uint8_t *put_word(uint8_t *at, uint32_t word)
{
    memcpy(at, &word, 4);
    return at + 4;
}

// EAX from EDI through 8 to 23 steps: add, xor, imul, a multiplication by five, or a jump that depends on a bit.
static uint8_t *write_function(uint8_t *at)
{
    at = put(at, "\x89\xf8", 2);
    for (uint32_t left = 8 + random_word() % 16; left; left--) {
        switch (random_word() % 5) {
        case 0: at = put_word(put(at, "\x05", 1), random_word()); break;
        case 1: at = put_word(put(at, "\x35", 1), random_word()); break;
        case 2: at = put_word(put(at, "\x69\xc0", 2), random_word() | 1); break;
        case 3: at = put(at, "\x8d\x04\x80", 3); break;
        default: at = put_word(put(at, "\xa8\x04\x74\x05\x2d", 5), random_word()); break;
        }
    }
    return put(at, "\xc3", 1);
}

static uint32_t once(uint8_t *room, long functions)
{
    uint32_t sum = 0;
    uint8_t *at = room;
    for (long done = 0; done < functions; done += BATCH) {
        function *batch[BATCH];
        if (at + BATCH * LONGEST > room + ROOM)
            at = room;
        for (int i = 0; i < BATCH; i++) {
            batch[i] = (function *)(uintptr_t)at;
            at = (uint8_t *)(((uintptr_t)write_function(at) + 15) & ~(uintptr_t)15);
        }
        for (int i = 0; i < BATCH; i++)
            sum += batch[i](batch[i](sum));
    }
    return sum;
}

static uint32_t patch(uint8_t *room, long times)
{
    uint32_t sum = 0;
    memcpy(room, "\x89\xf8\x05\0\0\0\0\xc1\xc0\x03\xc3", 11);
    for (long i = 0; i < times; i++) {
        put_word(room + 3, random_word());
        sum = ((function *)(uintptr_t)room)(sum);
    }
    return sum;
}

int main(int count, char **words)
{
    if (count < 3)
        return 2;
    uint8_t *room = mmap(NULL, ROOM, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
        return 1;
    printf("%u\n", !strcmp(words[1], "once") ? once(room, atol(words[2])) : patch(room, atol(words[2])));
    return 0;
}
