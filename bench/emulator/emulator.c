/* A link between two network namespaces, with a rate, a delay, losses and a queue.
 *
 * Makes two namespaces, each with one TUN device "wan" (10.9.0.1/24 and 10.9.0.2/24), and carries packets between them.
 * TUN and not veth: the kernel itself cuts segmentation super-packets apart and completes checksums before it hands
 * over, so each datagram is seen, delayed and lost by itself whatever the offloads of the senders. The namespaces have
 * no name and no owner but this process: they vanish with it, and it ends with its standard input.
 *
 *   emulator [SEED]
 *
 * Says first, on one line, how to reach the namespaces: {"pid": P, "a": FD, "b": FD} (/proc/P/fd/FD, for setns(2)).
 * Then it reads commands, a line each, and answers each with one line:
 *
 *   there|back|both KEY VALUE ...   rate BIT/S (0: without limit), delay S, jitter S, loss SHARE, queue BYTES, down 0|1
 *   stat                            what has happened since the last "stat", "there" (a to b) and "back" apart
 *
 * A packet meets, in this order: loss (each by chance, seeded), the queue (drop-tail, counted in bytes without the
 * packet in service), its serialisation at the rate, the delay. Jitter is added to the delay and never reorders.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <arpa/inet.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    MTU = 1500,
    RING = 1 << 17,    /* packets in one direction, in the queue and on the way; a power of two */
    BATCH = 64,        /* read from one side before the other has its turn */
    DEVICE_QUEUE = 20000, /* packets that wait for us: none may be lost before we have seen it */
    BUCKETS = 8192,    /* of the histogram of queueing delays, a millisecond each */
};
#define SECOND 1000000000LL
#define EARLY 5000     /* nanoseconds that a packet may leave before its time, to save a wake-up */

typedef int64_t nanoseconds;

struct packet {
    nanoseconds arrived, due;
    uint32_t size;
    unsigned char data[MTU + 4];
};

struct statistics {
    uint64_t packets, bytes, lost, dropped, overrun, failed;
    uint64_t queue_max;                /* bytes */
    uint32_t delays[BUCKETS];
};

struct direction {
    int in, out;
    double rate, loss;
    nanoseconds delay, jitter;
    uint64_t queue_limit;
    int down;
    uint64_t random;
    struct packet *ring[RING];
    uint32_t head, served, tail;       /* [head, served) are on the way, [served, tail) wait in the queue */
    nanoseconds free_at, last_due;     /* when the link is done with what is in service; order is kept by the latter */
    uint64_t queued;                   /* bytes that wait */
    struct statistics seen;
};

static struct direction directions[2]; /* there, back */
static struct packet *spare[2 * RING]; /* the last used first: it is still in the cache */
static int spares;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static nanoseconds now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

/* splitmix64: a number in [0, 1) */
static double chance(struct direction *d) {
    uint64_t z = (d->random += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return (double)((z ^ (z >> 31)) >> 11) / (double)(1ULL << 53);
}

static void write_setting(const char *path, const char *value) {
    int fd = open(path, O_WRONLY); /* /proc/sys/net is that of the namespace we are in */
    if (fd < 0)
        return;
    if (write(fd, value, strlen(value)) < 0)
        perror(path);
    close(fd);
}

static void set_address(int control, struct ifreq *request, unsigned long what, const char *address) {
    struct sockaddr_in *in = (struct sockaddr_in *)&request->ifr_addr;
    memset(in, 0, sizeof *in);
    in->sin_family = AF_INET;
    inet_pton(AF_INET, address, &in->sin_addr);
    if (ioctl(control, what, request) < 0)
        die("address of the device");
}

static void bring_up(int control, struct ifreq *request) {
    if (ioctl(control, SIOCGIFFLAGS, request) < 0)
        die("flags of the device");
    request->ifr_flags |= IFF_UP;
    if (ioctl(control, SIOCSIFFLAGS, request) < 0)
        die("device up");
}

/* A namespace with its end of the link; gives the descriptor of the namespace. */
static int make_namespace(const char *address, int *device) {
    if (unshare(CLONE_NEWNET) < 0)
        die("a network namespace (this needs root)");
    write_setting("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"); /* no packets that nobody sent */
    write_setting("/proc/sys/net/ipv4/tcp_no_metrics_save", "1");       /* no run remembers the one before */
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_name = "lo"};
    bring_up(control, &request);
    *device = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (*device < 0)
        die("/dev/net/tun");
    memset(&request, 0, sizeof request);
    strcpy(request.ifr_name, "wan");
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    if (ioctl(*device, TUNSETIFF, &request) < 0)
        die("TUNSETIFF");
    set_address(control, &request, SIOCSIFADDR, address);
    set_address(control, &request, SIOCSIFNETMASK, "255.255.255.0");
    request.ifr_mtu = MTU;
    if (ioctl(control, SIOCSIFMTU, &request) < 0)
        die("MTU");
    request.ifr_qlen = DEVICE_QUEUE;
    if (ioctl(control, SIOCSIFTXQLEN, &request) < 0)
        die("length of the device's queue");
    bring_up(control, &request);
    close(control);
    int namespace = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (namespace < 0)
        die("/proc/self/ns/net");
    return namespace;
}

/* Put into service what the link has time for: from then on it is known when the packet will be there. */
static void serve(struct direction *d, nanoseconds t) {
    while (d->served != d->tail) {
        struct packet *p = d->ring[d->served % RING];
        nanoseconds start = p->arrived > d->free_at ? p->arrived : d->free_at;
        if (start > t)
            return;
        nanoseconds waited = (start - p->arrived) / (SECOND / 1000);
        d->seen.delays[waited < BUCKETS ? waited : BUCKETS - 1]++;
        d->free_at = start + (d->rate > 0 ? (nanoseconds)(p->size * 8.0 / d->rate * SECOND) : 0);
        p->due = d->free_at + d->delay + (d->jitter ? (nanoseconds)(chance(d) * d->jitter) : 0);
        if (p->due < d->last_due)
            p->due = d->last_due;
        d->last_due = p->due;
        d->queued -= p->size;
        d->served++;
    }
}

static void take_in(struct direction *d) {
    for (int n = 0; n < BATCH; n++) {
        struct packet *p = spares ? spare[spares - 1] : malloc(sizeof *p);
        if (!p)
            die("memory");
        if (!spares)
            spare[spares++] = p;
        ssize_t size = read(d->in, p->data, sizeof p->data);
        if (size <= 0)
            return;
        p->size = (uint32_t)size;
        p->arrived = now();
        if (d->down || (d->loss > 0 && chance(d) < d->loss)) {
            d->seen.lost++;
            continue;
        }
        serve(d, p->arrived);
        if (d->queued + p->size > d->queue_limit && (d->served != d->tail || d->free_at > p->arrived)) {
            d->seen.dropped++;
            continue;
        }
        if (d->tail - d->head == RING) {
            d->seen.overrun++;
            continue;
        }
        spares--;
        d->ring[d->tail++ % RING] = p;
        d->queued += p->size;
        serve(d, p->arrived);
        if (d->queued > d->seen.queue_max)
            d->seen.queue_max = d->queued;
    }
}

static void put_out(struct direction *d) {
    nanoseconds t = now() + EARLY;
    serve(d, t);
    while (d->head != d->served && d->ring[d->head % RING]->due <= t) {
        struct packet *p = d->ring[d->head++ % RING];
        if (write(d->out, p->data, p->size) == (ssize_t)p->size) {
            d->seen.packets++;
            d->seen.bytes += p->size;
        } else {
            d->seen.failed++;
        }
        spare[spares++] = p;
    }
}

/* When there is something to do again; -1: when a packet comes. */
static nanoseconds next_time(const struct direction *d) {
    if (d->head != d->served)
        return d->ring[d->head % RING]->due;
    if (d->served != d->tail)
        return d->free_at;
    return -1;
}

static uint64_t queueing_delay(const struct statistics *seen, double share) {
    uint64_t all = 0, below = 0;
    for (int n = 0; n < BUCKETS; n++)
        all += seen->delays[n];
    for (int n = 0; n < BUCKETS; n++)
        if ((below += seen->delays[n]) > share * all)
            return n;
    return 0;
}

static void tell(const char *name, struct direction *d, const char *end) {
    struct statistics *seen = &d->seen;
    printf("\"%s\": {\"packets\": %lu, \"bytes\": %lu, \"lost\": %lu, \"dropped\": %lu, \"overrun\": %lu, \"failed\": %lu, "
           "\"queue\": %lu, \"queue_max\": %lu, \"delay_p50_ms\": %lu, \"delay_p95_ms\": %lu, \"delay_max_ms\": %lu}%s",
           name, seen->packets, seen->bytes, seen->lost, seen->dropped, seen->overrun, seen->failed, d->queued,
           seen->queue_max, queueing_delay(seen, 0.5), queueing_delay(seen, 0.95), queueing_delay(seen, 0.99999), end);
    memset(seen, 0, sizeof *seen);
}

static int set(struct direction *d, const char *key, double value) {
    if (!strcmp(key, "rate")) d->rate = value;
    else if (!strcmp(key, "delay")) d->delay = (nanoseconds)(value * SECOND);
    else if (!strcmp(key, "jitter")) d->jitter = (nanoseconds)(value * SECOND);
    else if (!strcmp(key, "loss")) d->loss = value;
    else if (!strcmp(key, "queue")) d->queue_limit = (uint64_t)value;
    else if (!strcmp(key, "down")) d->down = value != 0;
    else return 0;
    return 1;
}

static void obey(char *line) {
    char *word = strtok(line, " \n"), *key, *value;
    if (word && !strcmp(word, "stat")) {
        printf("{");
        tell("there", &directions[0], ", ");
        tell("back", &directions[1], "}\n");
        return;
    }
    int there = word && strcmp(word, "back"), back = word && strcmp(word, "there");
    if (!word || (there && back && strcmp(word, "both"))) {
        printf("{\"error\": \"there, back, both or stat\"}\n");
        return;
    }
    while ((key = strtok(NULL, " \n")) && (value = strtok(NULL, " \n")))
        if (!((!there || set(&directions[0], key, atof(value))) && (!back || set(&directions[1], key, atof(value))))) {
            printf("{\"error\": \"no such key: %s\"}\n", key);
            return;
        }
    printf("{}\n");
}

int main(int argc, char **argv) {
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    int namespaces[2], devices[2];
    const char *addresses[2] = {"10.9.0.1", "10.9.0.2"};
    prctl(PR_SET_PDEATHSIG, 9);
    prctl(PR_SET_TIMERSLACK, 1);
    for (int n = 0; n < 2; n++)
        namespaces[n] = make_namespace(addresses[n], &devices[n]);
    for (int n = 0; n < 2; n++) {
        directions[n].in = devices[n];
        directions[n].out = devices[1 - n];
        directions[n].random = seed * 2 + (uint64_t)n;
        directions[n].queue_limit = UINT64_MAX;
    }
    /* Before the contestants: a path does not slow down because its ends are busy. */
    struct sched_param priority = {.sched_priority = 1};
    if (sched_setscheduler(0, SCHED_FIFO, &priority) < 0)
        setpriority(PRIO_PROCESS, 0, -15);
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("{\"pid\": %d, \"a\": %d, \"b\": %d}\n", getpid(), namespaces[0], namespaces[1]);

    struct pollfd waiting[3] = {{devices[0], POLLIN, 0}, {devices[1], POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    for (;;) {
        nanoseconds next = -1, t = now();
        for (int n = 0; n < 2; n++) {
            nanoseconds own = next_time(&directions[n]);
            if (own >= 0 && (next < 0 || own < next))
                next = own;
        }
        nanoseconds left = next > t ? next - t : 0;
        struct timespec timeout = {left / SECOND, left % SECOND};
        if (ppoll(waiting, 3, next < 0 ? NULL : &timeout, NULL) < 0 && errno != EINTR)
            die("poll");
        for (int n = 0; n < 2; n++) {
            if (waiting[n].revents & POLLIN)
                take_in(&directions[n]);
            put_out(&directions[n]);
        }
        if (waiting[2].revents) {
            char line[1024];
            ssize_t size = read(STDIN_FILENO, line, sizeof line - 1); /* one command at a time, says the wrapper */
            if (size <= 0)
                return 0;
            line[size] = 0;
            obey(line);
        }
    }
}
