package controllers

import (
	"fmt"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
)

// massProblem says that a change would take access from too many clients at once; nil: none would.
func (r *InstanceReconciler) massProblem(instance *v1alpha1.MqttInstance) *problem {
	count, held := r.Guard.holding(client.ObjectKeyFromObject(instance))
	if !held {
		return nil
	}
	return &problem{
		reason: v1alpha1.ReasonMassRevocationHeld,
		message: fmt.Sprintf("A change of rules or labels would take access from %d of %d grants. None of their tokens is revoked. Undo the change, or confirm it: %s.",
			count.denied, count.total, confirmation(instance, v1alpha1.ConfirmRevocationAnnotation)),
	}
}

// truthProblem says that the service calls too many tokens invalid to be believed; nil: it does not.
func (r *InstanceReconciler) truthProblem(instance *v1alpha1.MqttInstance, now time.Time) *problem {
	if r.Connections.mayReissueInvalid(instance, now) {
		return nil
	}
	return &problem{
		reason: v1alpha1.ReasonTokensInvalid,
		message: fmt.Sprintf("The service calls most of the tokens that were checked invalid. None is replaced for it. Look at the instance in the console; to have them replaced: %s.",
			confirmation(instance, v1alpha1.ConfirmReissueAnnotation)),
	}
}

func confirmation(instance *v1alpha1.MqttInstance, annotation string) string {
	return fmt.Sprintf("kubectl annotate --overwrite mqi -n %s %s %s=%d", instance.Namespace, instance.Name, annotation, instance.Generation)
}
