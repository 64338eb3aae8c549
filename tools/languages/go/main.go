// Reads events, one a line, into the generated types; writes each again, and then a request without optional fields.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"roundtrip/messages"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		write(read(lines.Bytes()))
	}
	check(lines.Err())
	task := messages.Task{Name: "go", VpcId: "v", SubnetId: "s", SecurityGroupId: "g"}
	write(messages.MigrationRequest{ProjectId: "p", Task: &task})
}

func read(line []byte) interface{} {
	var kind struct {
		Reason *string `json:"reason"`
	}
	check(json.Unmarshal(line, &kind))
	if kind.Reason == nil {
		var event messages.MigrationSucceeded
		check(json.Unmarshal(line, &event))
		return event
	}
	var event messages.MigrationFailed
	check(json.Unmarshal(line, &event))
	return event
}

func write(value interface{}) {
	text, err := json.Marshal(value)
	check(err)
	fmt.Println(string(text))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
