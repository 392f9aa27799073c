package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
)

const (
	lowestPort = 10000
	attempts   = 100
)

// freePort is one that nobody listens on, and that the kernel gives to no client: it must still be ours when the
// API server is stopped and started again.
func freePort() (int, error) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0, err
	}
	var firstOfClients, lastOfClients int
	if _, err := fmt.Sscan(string(text), &firstOfClients, &lastOfClients); err != nil {
		return 0, err
	}
	if firstOfClients <= lowestPort {
		return 0, fmt.Errorf("clients may get any port from %d on: none is left for the API server", firstOfClients)
	}
	for range attempts {
		port := lowestPort + rand.IntN(firstOfClients-lowestPort)
		if listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, listener.Close()
		}
	}
	return 0, errors.New("found no free port for the API server")
}
