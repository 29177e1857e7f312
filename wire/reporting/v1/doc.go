// Package reportingv1 is the generated code of clearing.proto: what a
// clearinghouse takes and tells.
package reportingv1
