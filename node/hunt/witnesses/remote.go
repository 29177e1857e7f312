package witnesses

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect"

	"dragnet/flow"
	"dragnet/node/api"
	nodev1 "dragnet/wire/node/v1"
)

// askNode returns what asks the log of the node at address, as its operator.
func askNode(address, name string) (func(context.Context, []byte) ([]byte, []flow.Problem, error), error) {
	client, err := api.Dial(address, "")
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, question []byte) ([]byte, []flow.Problem, error) {
		got, err := client.Question.AnswerQuestion(ctx, &nodev1.AnswerQuestionRequest{Question: question, Name: name})
		if e, ok := errors.AsType[*connect.Error](err); ok {
			err = fmt.Errorf("%s: %w", address, errors.New(e.Message()))
		}
		if err != nil {
			return nil, nil, fmt.Errorf("witness %s: %w", name, err)
		}
		problems := make([]flow.Problem, len(got.Problems))
		for i, p := range got.Problems {
			problems[i].Place, problems[i].Reason, _ = strings.Cut(p, ": ")
		}
		return got.Testimony, problems, nil
	}, nil
}
