// Reads events, one a line, into the generated types; writes each again, and then a request without optional fields.
package main

import (
	"bufio"
	"bytes"
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

// A line is routing key, blank, body.
func read(line []byte) interface{} {
	key, body, _ := bytes.Cut(line, []byte(" "))
	event, known := map[string]interface{}{
		"migration.succeeded":           &messages.MigrationSucceeded{},
		"migration.failed":              &messages.MigrationFailed{},
		"migration.provisioned":         &messages.MigrationProvisioned{},
		"migration.provisioning_failed": &messages.MigrationProvisioningFailed{},
	}[string(key)]
	if !known {
		check(fmt.Errorf("unknown routing key: %s", key))
	}
	check(json.Unmarshal(body, event))
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
