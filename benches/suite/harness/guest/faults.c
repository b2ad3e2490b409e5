// Touches every page of fresh memory, gives it back, and so on: `faults ROUNDS` of 4096 pages each.
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

int main(int count, char **words)
{
    const size_t page = 4096, length = 4096 * page;
    long rounds = count > 1 ? atol(words[1]) : 10, sum = 0;
    for (long round = 0; round < rounds; round++) {
        unsigned char *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            return 1;
        madvise(memory, length, MADV_NOHUGEPAGE);
        for (size_t at = 0; at < length; at += page)
            memory[at + (size_t)round % page] = (unsigned char)(at / page + (size_t)round);
        sum += memory[(size_t)round % 4096 * page + (size_t)round % page];
        munmap(memory, length);
    }
    printf("%ld\n", sum);
    return 0;
}
