// The bare loop in Go: consume a request, POST it, publish an event that is confirmed, acknowledge.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log"
	"net/http"
	"os"

	amqp "github.com/rabbitmq/amqp091-go"
)

const inFlight = 64

type request struct {
	RequestID string          `json:"request_id"`
	ProjectID string          `json:"project_id"`
	Region    string          `json:"region"`
	Task      json.RawMessage `json:"task"`
}

type event struct {
	RequestID  string `json:"request_id"`
	ProjectID  string `json:"project_id"`
	Region     string `json:"region"`
	Name       string `json:"name"`
	InstanceID string `json:"instance_id"`
	Resolution string `json:"resolution"`
}

var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: inFlight}}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func create(asked request) string {
	url := os.Getenv("BENCH_SERVICE_URL") + "/v2/" + asked.ProjectID + "/migration/instance"
	post, err := http.NewRequest("POST", url, bytes.NewReader(asked.Task))
	must(err)
	post.Header.Set("Content-Type", "application/json")
	post.Header.Set("X-Auth-Token", "tttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt")
	answer, err := client.Do(post)
	must(err)
	defer answer.Body.Close()
	var created struct {
		InstanceID string `json:"instance_id"`
	}
	must(json.NewDecoder(answer.Body).Decode(&created))
	return created.InstanceID
}

func work(channel *amqp.Channel, deliveries <-chan amqp.Delivery) {
	for delivery := range deliveries {
		var asked request
		var task struct{ Name string }
		must(json.Unmarshal(delivery.Body, &asked))
		must(json.Unmarshal(asked.Task, &task))
		told := event{asked.RequestID, asked.ProjectID, asked.Region, task.Name, create(asked), "created"}
		body, err := json.Marshal(told)
		must(err)
		message := amqp.Publishing{ContentType: "application/json", DeliveryMode: amqp.Persistent, Body: body}
		confirm, err := channel.PublishWithDeferredConfirmWithContext(context.Background(),
			"dcs.migration.events", "migration.succeeded", false, false, message)
		must(err)
		if !confirm.Wait() {
			log.Fatal("the broker refused an event")
		}
		must(delivery.Ack(false))
	}
}

func main() {
	connection, err := amqp.Dial(os.Getenv("BENCH_AMQP_URL"))
	must(err)
	channel, err := connection.Channel()
	must(err)
	must(channel.Confirm(false))
	must(channel.Qos(inFlight, 0, false))
	deliveries, err := channel.Consume("dcs.migration.requests", "", false, false, false, false, nil)
	must(err)
	for i := 1; i < inFlight; i++ {
		go work(channel, deliveries)
	}
	work(channel, deliveries)
}
