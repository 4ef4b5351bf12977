package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const mostContent = 4096 // bytes of a file that are shown

type file struct {
	Kind    string `json:"kind"`
	Mode    string `json:"mode,omitempty"`
	Owner   string `json:"owner,omitempty"`
	Target  string `json:"target,omitempty"`
	Content string `json:"content,omitempty"`
	Error   string `json:"error,omitempty"`
}

// report prints what this process sees of itself and of the PATHs, which are walked. With -wait it first waits, as long
// as it takes, until a file holds a text.
func report(args []string) error {
	flags := flag.NewFlagSet("report", flag.ExitOnError)
	wait := flags.String("wait", "", "FILE=TEXT: report once FILE holds TEXT")
	label := flags.String("label", "", "said in the report")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *wait != "" {
		path, text, _ := strings.Cut(*wait, "=")
		awaitText(path, text)
	}
	seen := map[string]any{
		"label": *label, "env": environment(), "user": user(), "process": process(), "hostname": hostname(),
		"cwd": cwd(), "resolv": lines("/etc/resolv.conf"), "hosts": lines("/etc/hosts"), "cgroup": cgroup(),
		"mounts": mounts(), "processes": processes(), "files": walk(flags.Args()),
	}
	return json.NewEncoder(os.Stdout).Encode(seen)
}

func awaitText(path, text string) {
	for {
		if content, err := os.ReadFile(path); err == nil && strings.Contains(string(content), text) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func environment() map[string]string {
	found := map[string]string{}
	for _, each := range os.Environ() {
		name, value, _ := strings.Cut(each, "=")
		found[name] = value
	}
	return found
}

func user() map[string]any {
	groups, _ := os.Getgroups()
	return map[string]any{"uid": os.Getuid(), "gid": os.Getgid(), "groups": groups}
}

// process picks what security contexts decide out of /proc/self/status.
func process() map[string]string {
	found := map[string]string{}
	for _, line := range lines("/proc/self/status") {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp":
			found[name] = strings.TrimSpace(value)
		}
	}
	found["oomScoreAdj"] = text("/proc/self/oom_score_adj")
	return found
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return err.Error()
	}
	return name
}

func cwd() string {
	path, err := os.Getwd()
	if err != nil {
		return err.Error()
	}
	return path
}

// cgroup tells the limits, whichever version of cgroups the kernel has; what cannot be read is left out.
func cgroup() map[string]string {
	found := map[string]string{}
	for name, paths := range map[string][]string{
		"memory":    {"memory/memory.limit_in_bytes", "memory.max"},
		"cpuQuota":  {"cpu/cpu.cfs_quota_us", "cpu.max"},
		"cpuShares": {"cpu/cpu.shares", "cpu.weight"},
		"pids":      {"pids/pids.max", "pids.max"},
	} {
		for _, path := range paths {
			if value := text("/sys/fs/cgroup/" + path); value != "" {
				found[name] = value
				break
			}
		}
	}
	return found
}

// mounts tells for every mount point its file system and whether one may write.
func mounts() map[string]string {
	found := map[string]string{}
	for _, line := range lines("/proc/self/mountinfo") {
		before, after, _ := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if len(left) < 6 || len(right) < 3 {
			continue
		}
		access := strings.SplitN(left[5], ",", 2)[0]
		if strings.HasPrefix(right[2], "ro") {
			access = "ro"
		}
		size := ""
		if right[0] == "tmpfs" {
			for _, option := range strings.Split(right[2], ",") {
				if strings.HasPrefix(option, "size=") {
					size = " " + option
				}
			}
		}
		found[left[4]] = right[0] + " " + access + size
	}
	return found
}

// processes lists the names of all processes in sight; more than our own only with a shared process namespace.
func processes() []string {
	found := []string{}
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err == nil {
			if line := strings.TrimRight(strings.ReplaceAll(text("/proc/"+entry.Name()+"/cmdline"), "\x00", " "), " "); line != "" {
				found = append(found, line)
			}
		}
	}
	return found
}

func walk(roots []string) map[string]file {
	found := map[string]file{}
	for _, root := range roots {
		_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				found[path] = file{Kind: "error", Error: cause(err)}
				return nil
			}
			found[path] = describe(path, entry)
			return nil
		})
	}
	return found
}

// describe tells of a link what it leads to, beside where.
func describe(path string, entry fs.DirEntry) file {
	seen := file{Kind: "file"}
	switch {
	case entry.IsDir():
		seen.Kind = "folder"
	case entry.Type()&fs.ModeSymlink != 0:
		seen.Kind = "link"
		seen.Target, _ = os.Readlink(path)
	}
	info, err := os.Stat(path)
	if err != nil {
		seen.Error = cause(err)
		return seen
	}
	stat := info.Sys().(*syscall.Stat_t)
	seen.Mode, seen.Owner = fmt.Sprintf("%04o", stat.Mode&0o7777), fmt.Sprintf("%d:%d", stat.Uid, stat.Gid)
	if info.Mode().IsRegular() {
		if content, err := os.ReadFile(path); err != nil {
			seen.Error = cause(err)
		} else {
			seen.Content = string(content[:min(len(content), mostContent)])
		}
	}
	return seen
}

func cause(err error) string {
	if path, ok := err.(*fs.PathError); ok {
		return path.Err.Error()
	}
	return err.Error()
}

func text(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(content))
}

func lines(path string) []string {
	found := []string{}
	content, err := os.Open(path)
	if err != nil {
		return found
	}
	defer content.Close()
	for scanner := bufio.NewScanner(content); scanner.Scan(); {
		found = append(found, scanner.Text())
	}
	return found
}
