/* get HOST PORT: fetch / and print the body. Built statically with musl: a program with a
 * resolver of its own, which knows only /etc/resolv.conf and /etc/hosts. */
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list, *at;
    char request[512], answer[65536], *body;
    size_t got = 0;
    ssize_t n;
    int fd = -1, error;

    if (argc != 3) {
        fprintf(stderr, "usage: get HOST PORT\n");
        return 2;
    }
    error = getaddrinfo(argv[1], argv[2], &hints, &list);
    if (error) {
        fprintf(stderr, "get: %s: %s\n", argv[1], gai_strerror(error));
        return 1;
    }
    for (at = list; at && fd < 0; at = at->ai_next) {
        fd = socket(at->ai_family, at->ai_socktype, at->ai_protocol);
        if (fd >= 0 && connect(fd, at->ai_addr, at->ai_addrlen)) {
            perror("get: connect");
            close(fd);
            fd = -1;
        }
    }
    if (fd < 0)
        return 1;
    n = snprintf(request, sizeof request, "GET / HTTP/1.0\r\nHost: %s\r\n\r\n", argv[1]);
    if (n >= (ssize_t)sizeof request || write(fd, request, n) != n)
        return 1;
    while (got < sizeof answer - 1 && (n = read(fd, answer + got, sizeof answer - 1 - got)) > 0)
        got += n;
    answer[got] = 0;
    body = strstr(answer, "\r\n\r\n");
    if (!body) {
        fprintf(stderr, "get: no answer\n");
        return 1;
    }
    fputs(body + 4, stdout);
    return 0;
}
