// Two processes wake each other in turn over two pipes: `pipes TIMES`.
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int count, char **words)
{
    long times = count > 1 ? atol(words[1]) : 1000, sum = 0;
    int there[2], back[2];
    unsigned char byte = 0;
    if (pipe(there) || pipe(back))
        return 1;
    pid_t child = fork();
    if (child < 0)
        return 1;
    if (!child) {
        close(there[1]);
        while (read(there[0], &byte, 1) == 1) {
            byte++;
            if (write(back[1], &byte, 1) != 1)
                return 1;
        }
        return 0;
    }
    for (long i = 0; i < times; i++) {
        byte = (unsigned char)i;
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
            return 1;
        sum += byte;
    }
    close(there[1]);
    waitpid(child, NULL, 0);
    printf("%ld\n", sum);
    return 0;
}
