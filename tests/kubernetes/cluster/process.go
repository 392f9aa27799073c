package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const logLinesShown = 20

// process is this binary, run as one of the components.
type process struct {
	name    string
	command *exec.Cmd
	log     string
	gone    chan struct{}
}

// startProcess reports the process to ended when it has ended. Its output is appended to the log.
func startProcess(name string, flags []string, log string, ended chan<- *process) (*process, error) {
	output, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.Command(self, append([]string{name}, flags...)...)
	command.Stdout, command.Stderr = output, output
	command.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL, // it ends with us when we are killed
		Setpgid:   true,            // Ctrl-C is for us alone
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	p := &process{name: name, command: command, log: log, gone: make(chan struct{})}
	go func() {
		_ = command.Wait() // how it ended is read from its ProcessState
		close(p.gone)
		ended <- p
	}()
	return p, nil
}

func (p *process) hasEnded() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

// end signals the process, kills it if it is still there after the grace period, and returns when it is gone.
func (p *process) end(signal syscall.Signal, gracePeriod time.Duration) {
	_ = p.command.Process.Signal(signal) // fails only where it has ended already
	select {
	case <-p.gone:
	case <-time.After(gracePeriod):
		_ = p.command.Process.Kill()
		<-p.gone
	}
}

// failure says how a process ended that should not have, with the last that it wrote.
func (p *process) failure() error {
	text, err := os.ReadFile(p.log)
	if err != nil {
		text = []byte(err.Error())
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	lines = lines[max(0, len(lines)-logLinesShown):]
	return fmt.Errorf("%s ended: %s\n%s", p.name, p.command.ProcessState, strings.Join(lines, "\n"))
}
