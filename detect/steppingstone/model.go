package steppingstone

// DefaultScore is the score that one in a thousand pairs of unrelated connections
// exceeded among the chains the model was learnt from.
const DefaultScore = 3.4

// weights are those of the logistic model, the last one its constant.
var weights = [ofPair + 1]float64{
	0.2078, 0.4113, -0.7581, 1.573, -2.119, 2.328, -2.062, 2.16, 5.862, 5.495, 2.954, -1.673, 1.696,
	0.5821, 1.442, 1.703, 1.651, 3.253, 1.633, 7.735, -0.45, 4.61, -0.1365, 1.973, 0.9246, -1.082,
	-11.87,
}

// weigh is the logarithm of the odds that a pair is a stepping stone.
func weigh(features [ofPair]float64) float64 {
	sum := weights[ofPair]
	for i, f := range features {
		sum += weights[i] * f
	}
	return sum
}
