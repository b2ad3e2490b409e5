// Bodies under each other's gravity, in double precision: `nbody STEPS` prints the energy before and after.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { BODIES = 8 };
struct body { double x[3], v[3], mass; };
static struct body bodies[BODIES];

static double energy(void)
{
    double sum = 0;
    for (int i = 0; i < BODIES; i++) {
        const struct body *a = &bodies[i];
        sum += 0.5 * a->mass * (a->v[0] * a->v[0] + a->v[1] * a->v[1] + a->v[2] * a->v[2]);
        for (int j = i + 1; j < BODIES; j++) {
            double square = 0;
            for (int k = 0; k < 3; k++) {
                double d = a->x[k] - bodies[j].x[k];
                square += d * d;
            }
            sum -= a->mass * bodies[j].mass / sqrt(square);
        }
    }
    return sum;
}

static void step(double dt)
{
    for (int i = 0; i < BODIES; i++) {
        struct body *a = &bodies[i];
        for (int j = i + 1; j < BODIES; j++) {
            struct body *b = &bodies[j];
            double d[3], square = 0.01;
            for (int k = 0; k < 3; k++) {
                d[k] = a->x[k] - b->x[k];
                square += d[k] * d[k];
            }
            double pull = dt / (square * sqrt(square));
            for (int k = 0; k < 3; k++) {
                a->v[k] -= d[k] * b->mass * pull;
                b->v[k] += d[k] * a->mass * pull;
            }
        }
    }
    for (int i = 0; i < BODIES; i++)
        for (int k = 0; k < 3; k++)
            bodies[i].x[k] += dt * bodies[i].v[k];
}

int main(int count, char **words)
{
    long steps = count > 1 ? atol(words[1]) : 1000;
    for (int i = 0; i < BODIES; i++) {
        double angle = 0.7 * i, far = 1 + i;
        bodies[i] = (struct body){ { far * cos(angle), far * sin(angle), 0.1 * i },
                                   { -sin(angle) / far, cos(angle) / far, 0.01 * i }, i ? 0.05 * i : 4 };
    }
    printf("%.9f\n", energy());
    for (long i = 0; i < steps; i++)
        step(0.0005);
    printf("%.9f\n", energy());
    return 0;
}
