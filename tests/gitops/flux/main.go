// kstatus' and Flux's own judgement of objects: a JSON list of them from stdin, a list of answers to stdout.
package main

import (
	"context"
	"encoding/json"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	"github.com/fluxcd/pkg/runtime/conditions/check"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type answer struct {
	Status  string `json:"status"`
	Message string `json:"message"`
	Failed  string `json:"failed"`
}

func judge(object []byte) (answer, error) {
	item := &unstructured.Unstructured{}
	if err := item.UnmarshalJSON(object); err != nil {
		return answer{}, err
	}
	computed, err := status.Compute(item)
	if err != nil {
		return answer{}, err
	}
	checker := check.NewChecker(nil, &check.Conditions{NegativePolarity: []string{meta.ReconcilingCondition, meta.StalledCondition}})
	checker.DisableFetch = true
	failed, _ := checker.Check(context.Background(), conditions.UnstructuredGetter(item))
	given := answer{Status: string(computed.Status), Message: computed.Message}
	if failed != nil {
		given.Failed = failed.Error()
	}
	return given, nil
}

func main() {
	var objects []json.RawMessage
	if err := json.NewDecoder(os.Stdin).Decode(&objects); err != nil {
		panic(err)
	}
	answers := []answer{}
	for _, object := range objects {
		given, err := judge(object)
		if err != nil {
			panic(err)
		}
		answers = append(answers, given)
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		panic(err)
	}
}
