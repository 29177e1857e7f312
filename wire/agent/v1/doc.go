// Package agentv1 is version 1 of what an agent and its node say to each other:
// how an agent enrols, fetches its configuration, and sends what it saw.
//
// Fields are added, never changed or used again; either side leaves alone what
// it does not know. So a node and agents one minor version apart work together.
package agentv1
