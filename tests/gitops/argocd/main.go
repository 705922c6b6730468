// The two Argo CD components that a GitOps test needs, and its judgement of health, in one binary; the first argument
// picks which one to be.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	controller "github.com/argoproj/argo-cd/v3/cmd/argocd-application-controller/commands"
	repository "github.com/argoproj/argo-cd/v3/cmd/argocd-repo-server/commands"
	"github.com/argoproj/argo-cd/v3/util/lua"
	"github.com/argoproj/gitops-engine/pkg/health"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

var components = map[string]func() *cobra.Command{
	"application-controller": controller.NewCommand,
	"repo-server":            repository.NewCommand,
	"health":                 newHealthCommand,
}

// newHealthCommand judges a JSON list of objects from stdin by a health script, as the application controller does.
func newHealthCommand() *cobra.Command {
	return &cobra.Command{Use: "health SCRIPT", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
		script, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		var objects []json.RawMessage
		if err := json.NewDecoder(os.Stdin).Decode(&objects); err != nil {
			return err
		}
		judged := []*health.HealthStatus{}
		for _, object := range objects {
			item := &unstructured.Unstructured{}
			if err := item.UnmarshalJSON(object); err != nil {
				return err
			}
			status, err := lua.VM{}.ExecuteHealthLua(item, string(script))
			if err != nil {
				return err
			}
			judged = append(judged, status)
		}
		return json.NewEncoder(os.Stdout).Encode(judged)
	}}
}

func main() {
	if len(os.Args) < 2 || components[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: argocd application-controller|repo-server|health [flags]")
		os.Exit(2)
	}
	command := components[os.Args[1]]()
	command.SetArgs(os.Args[2:])
	if command.Execute() != nil {
		os.Exit(1)
	}
}
